// A preview, drag and drop, paste and a busy state for the start page, which works without this file too.

import { MEGABYTE } from "./sizes.js";

const PROGRESS_BYTES = 5 * MEGABYTE; // smaller files arrive before anybody could read their progress

const root = document.documentElement;
const form = document.getElementById("uploader");
const input = document.getElementById("file");
const folder = document.getElementById("folder");
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
const limits = {
  picture: Number(form.dataset.maxMb),
  recording: Number(form.dataset.maxRecordingMb),
  together: Number(form.dataset.maxBatchMb),
  files: Number(form.dataset.maxFiles),
};
let carried = []; // { file, path } of a dropped folder, which no input can hold with its paths

root.classList.add("scripted");
input.required = true;
document.getElementById("folder-button").hidden = !("webkitdirectory" in folder);

function chosenFiles() {
  if (carried.length) return carried.map(({ file }) => file);
  return [...input.files, ...folder.files];
}

function idleLabel() {
  const count = chosenFiles().length;
  return count > 1 ? words.checkFiles.replace("{count}", count) : emptyLabel;
}

function totalBytes(files) {
  return files.reduce((sum, file) => sum + file.size, 0);
}

function megabytes(bytes) {
  const digits = { minimumFractionDigits: 1, maximumFractionDigits: 1, useGrouping: false };
  return (bytes / MEGABYTE).toLocaleString(root.lang, digits);
}

function describe(files) {
  const bytes = totalBytes(files);
  const size = bytes >= MEGABYTE ? `${megabytes(bytes)} MB` : `${Math.ceil(bytes / 1000)} kB`;
  return `${size} · ${words.chooseAnother}`;
}

function findProblem(files) {
  if (!files.length) return "";
  if (files.length === 1 && !files[0].name.toLowerCase().endsWith(".zip")) return findProblemOfOne(files[0]);
  if (files.length > limits.files) {
    return words.tooMany.replace("{n_files}", files.length).replace("{limit}", limits.files);
  }
  const bytes = totalBytes(files);
  if (bytes <= limits.together * MEGABYTE) return ""; // the server decides about each file
  return words.tooLargeTogether.replace("{size}", megabytes(bytes)).replace("{limit}", limits.together);
}

function findProblemOfOne(file) {
  if (file.size === 0) return words.empty;
  const isRecording = /^(video|audio)\//.test(file.type) || !file.type; // the server decides about an unknown type
  const maxMegabytes = isRecording ? limits.recording : limits.picture;
  if (file.size > maxMegabytes * MEGABYTE) {
    return words.tooLarge.replace("{size}", megabytes(file.size)).replace("{limit}", maxMegabytes);
  }
  return "";
}

function show() {
  const files = chosenFiles();
  const wrong = findProblem(files);
  const [file] = files.length === 1 ? files : [];
  problem.textContent = wrong;
  input.setCustomValidity(wrong);
  input.required = !files.length;
  zone.classList.toggle("filled", Boolean(files.length));
  title.textContent = file ? file.name : files.length ? words.files.replace("{count}", files.length) : emptyTitle;
  detail.textContent = files.length ? describe(files) : "";
  label.textContent = idleLabel();

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
  for (const file of files) chosen.items.add(file);
  carried = [];
  folder.value = "";
  input.files = chosen.files;
  show();
}

function takeFolder(found) {
  if (!found.length) return;
  input.value = folder.value = "";
  carried = found;
  show();
}

// All files of a dropped file or folder, with their paths.
async function readEntry(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, path: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) { // a reader gives up to a hundred entries at a time
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return found;
    for (const each of entries) found.push(...await readEntry(each));
  }
}

async function takeDropped(carriedData) {
  const entries = [...carriedData.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) {
    take(carriedData.files);
    return;
  }
  takeFolder((await Promise.all(entries.map(readEntry))).flat());
}

function setBusy(busyForm, busy) {
  busyForm.classList.toggle("busy", busy);
  root.classList.toggle("waiting", busy);
  status.textContent = busy ? words.checking : "";
}

input.addEventListener("change", () => {
  carried = [];
  folder.value = "";
  show();
});
folder.addEventListener("change", () => {
  carried = [];
  input.value = "";
  show();
});
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
  takeDropped(event.dataTransfer);
});
addEventListener("paste", (event) => take(event.clipboardData.files));

function showProgress(fraction) {
  const isSent = fraction === 1; // from then on the server is at work
  button.style.setProperty("--sent", `${100 * fraction}%`);
  label.textContent = isSent ? words.sent : words.sending.replace("{percent}", Math.floor(100 * fraction));
}

function hideProgress() {
  button.style.removeProperty("--sent");
  label.textContent = idleLabel();
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
  const data = new FormData(form);
  for (const { file, path } of carried) data.append("file", file, path);
  request.open("POST", form.action);
  request.send(data);
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
  if (!carried.length && totalBytes(chosenFiles()) < PROGRESS_BYTES) return;
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
  if (chosenFiles().length) show();
});
