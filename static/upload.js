// A preview, drag and drop, paste and a busy state for the start page, which works without this file too.

const MEGABYTE = 1_000_000;
const PROGRESS_BYTES = 5 * MEGABYTE; // smaller files arrive before anybody could read their progress

const root = document.documentElement;
const form = document.getElementById("uploader");
const input = document.getElementById("file");
const zone = document.getElementById("drop-zone");
const previews = {
  image: document.getElementById("preview"),
  video: document.getElementById("video-preview"),
  audio: document.getElementById("audio-preview"),
};
const title = document.getElementById("drop-title");
const detail = document.getElementById("drop-detail");
const problem = document.getElementById("upload-error");
const status = document.getElementById("upload-status");
const button = document.getElementById("send");
const label = document.getElementById("upload-label");
const emptyLabel = label.textContent;
const emptyTitle = title.textContent;
const words = form.dataset; // the template gives them in the language of the page
const limits = { picture: Number(form.dataset.maxMb), recording: Number(form.dataset.maxRecordingMb) };

root.classList.add("scripted");

function megabytes(file) {
  const digits = { minimumFractionDigits: 1, maximumFractionDigits: 1, useGrouping: false };
  return (file.size / MEGABYTE).toLocaleString(root.lang, digits);
}

function describe(file) {
  const size = file.size >= MEGABYTE ? `${megabytes(file)} MB` : `${Math.ceil(file.size / 1000)} kB`;
  return `${size} · ${words.chooseAnother}`;
}

function findProblem(file) {
  if (file.size === 0) return words.empty;
  const isRecording = /^(video|audio)\//.test(file.type) || !file.type; // the server decides about an unknown type
  const maxMegabytes = isRecording ? limits.recording : limits.picture;
  if (file.size > maxMegabytes * MEGABYTE) {
    return words.tooLarge.replace("{size}", megabytes(file)).replace("{limit}", maxMegabytes);
  }
  return "";
}

function show(file) {
  const wrong = file ? findProblem(file) : "";
  problem.textContent = wrong;
  input.setCustomValidity(wrong);
  zone.classList.toggle("filled", Boolean(file));
  title.textContent = file ? file.name : emptyTitle;
  detail.textContent = file ? describe(file) : "";

  for (const preview of Object.values(previews)) {
    if (preview.src) URL.revokeObjectURL(preview.src);
    preview.hidden = true;
    preview.removeAttribute("src");
    preview.load?.(); // a player forgets the file before
  }
  if (file && !wrong) (previews[file.type.split("/")[0]] ?? previews.image).src = URL.createObjectURL(file);
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
  status.textContent = busy ? words.checking : "";
}

input.addEventListener("change", () => show(input.files[0]));
for (const preview of Object.values(previews)) {
  for (const event of ["load", "loadedmetadata"]) preview.addEventListener(event, () => { preview.hidden = false; });
  preview.addEventListener("error", () => { preview.hidden = true; }); // a format that this browser cannot show, such as TIFF
}

// The whole page accepts the drop: a picture dropped beside the frame must not replace the page.
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

function showProgress(fraction) {
  const isSent = fraction === 1; // from then on the server is at work
  button.style.setProperty("--sent", `${100 * fraction}%`);
  label.textContent = isSent ? words.sent : words.sending.replace("{percent}", Math.floor(100 * fraction));
}

function hideProgress() {
  button.style.removeProperty("--sent");
  label.textContent = emptyLabel;
}

// A large file is sent with its progress in the button.
function send() {
  const request = new XMLHttpRequest();
  request.upload.addEventListener("progress", (event) => {
    showProgress(event.loaded / event.total);
  });
  request.addEventListener("load", () => {
    if (request.responseURL !== form.action) {
      location.assign(request.responseURL);
      return;
    }
    const page = new DOMParser().parseFromString(request.responseText, "text/html");
    const sentence = page.getElementById("upload-error") ?? page.querySelector(".dead-end .lead"); // beside the form, or alone
    fail(sentence?.textContent || words.unexpected);
  });
  request.addEventListener("error", () => fail(words.lost));
  request.open("POST", form.action);
  request.send(new FormData(form));
}

function fail(sentence) {
  setBusy(form, false);
  hideProgress();
  problem.textContent = sentence;
  problem.tabIndex = -1;
  problem.focus();
}

form.addEventListener("submit", (event) => {
  if (event.defaultPrevented || root.classList.contains("waiting")) return;
  if (input.files[0].size < PROGRESS_BYTES) return;
  event.preventDefault();
  setBusy(form, true);
  send();
});

for (const each of document.querySelectorAll("form")) {
  each.addEventListener("submit", (event) => {
    if (root.classList.contains("waiting")) event.preventDefault(); // one request at a time
    else setBusy(each, true);
  });
}
// The browser's back button shows the page as it was left.
addEventListener("pageshow", () => {
  for (const each of document.querySelectorAll("form")) setBusy(each, false);
  hideProgress();
  if (input.files.length) show(input.files[0]);
});
