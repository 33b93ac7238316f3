// The start page with a preview, drag and drop, paste and a busy state. Everything works without this file too.

const MEGABYTE = 1_000_000;

const root = document.documentElement;
const form = document.getElementById("uploader");
const input = document.getElementById("picture");
const zone = document.getElementById("drop-zone");
const preview = document.getElementById("preview");
const title = document.getElementById("drop-title");
const detail = document.getElementById("drop-detail");
const problem = document.getElementById("upload-error");
const status = document.getElementById("upload-status");
const emptyTitle = title.textContent;
const maxMegabytes = Number(form.dataset.maxMb);

root.classList.add("scripted");

function describe(file) {
  const size = file.size >= MEGABYTE ? `${(file.size / MEGABYTE).toFixed(1)} MB` : `${Math.ceil(file.size / 1000)} kB`;
  return `${size} · choose another`;
}

function whatIsWrongWith(file) {
  if (file.size === 0) return "The file is empty.";
  if (file.size > maxMegabytes * MEGABYTE) {
    return `The file has ${(file.size / MEGABYTE).toFixed(1)} MB; at most ${maxMegabytes} MB are accepted.`;
  }
  return "";
}

function show(file) {
  const wrong = file ? whatIsWrongWith(file) : "";
  problem.textContent = wrong;
  input.setCustomValidity(wrong);
  zone.classList.toggle("filled", Boolean(file));
  title.textContent = file ? file.name : emptyTitle;
  detail.textContent = file ? describe(file) : "";

  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.hidden = true;
  preview.removeAttribute("src");
  if (file && !wrong) preview.src = URL.createObjectURL(file);
}

function take(files) {
  if (!files.length) return;
  const chosen = new DataTransfer();
  chosen.items.add(files[0]);
  input.files = chosen.files;
  show(files[0]);
}

function setBusy(busyForm, busy) {
  busyForm.classList.toggle("busy", busy);
  root.classList.toggle("waiting", busy);
  status.textContent = busy ? "The picture is being checked." : "";
}

input.addEventListener("change", () => show(input.files[0]));
preview.addEventListener("load", () => { preview.hidden = false; });
preview.addEventListener("error", () => { preview.hidden = true; }); // a kind this browser cannot show, such as TIFF

// The whole page takes the drop: a picture that lands beside the frame must not replace the page.
let depth = 0;
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => {
  if (!carriesFiles(event)) return;
  depth += 1;
  zone.classList.add("hovered");
});
addEventListener("dragleave", (event) => {
  if (!carriesFiles(event)) return;
  depth -= 1;
  if (depth <= 0) zone.classList.remove("hovered");
});
addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  depth = 0;
  zone.classList.remove("hovered");
  take(event.dataTransfer.files);
});
addEventListener("paste", (event) => take(event.clipboardData.files));

for (const each of document.querySelectorAll("form")) {
  each.addEventListener("submit", (event) => {
    if (root.classList.contains("waiting")) event.preventDefault(); // one at a time, however often it is pressed
    else setBusy(each, true);
  });
}
// Coming back with the browser's back button finds the page as it was left.
addEventListener("pageshow", () => {
  for (const each of document.querySelectorAll("form")) setBusy(each, false);
  if (input.files.length) show(input.files[0]);
});
