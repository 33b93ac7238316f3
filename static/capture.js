// Takes a picture, or records a video or a voice, and puts the file into the upload form, which shows and sends it.
// Without this file, or without a camera and a microphone that pages may use, nothing of it appears.

import { MEGABYTE } from "./sizes.js";

const LONGEST_S = 120; // of a recording
const JPEG_QUALITY = 0.95;
// Programs that clean speech would change what is checked.
const sound = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
const kinds = {
  picture: { source: { video: true } },
  video: { source: { video: true, audio: sound }, types: ["video/webm;codecs=vp8,opus", "video/webm", "video/mp4"] },
  voice: { source: { audio: sound }, types: ["audio/webm;codecs=opus", "audio/webm", "audio/mp4"] },
};

const part = document.getElementById("capture");
const panel = document.getElementById("capture-panel");
const view = document.getElementById("capture-view");
const use = document.getElementById("capture-use");
const cancel = document.getElementById("capture-cancel");
const status = document.getElementById("capture-status");
const problem = document.getElementById("capture-problem");
const input = document.getElementById("file");
const openers = [...part.querySelectorAll("[data-capture]")];
const words = part.dataset; // the template gives them in the language of the page

let open = null; // { kind, opener, stream, recorder, chunks, timer }

function supportedType(kind) {
  return kinds[kind].types?.find((type) => window.MediaRecorder?.isTypeSupported(type));
}

async function start(opener) {
  stop();
  const kind = opener.dataset.capture;
  problem.textContent = status.textContent = "";
  try {
    const stream = await navigator.mediaDevices.getUserMedia(kinds[kind].source);
    open = { kind, opener, stream, recorder: null, chunks: [], timer: null };
  } catch (error) {
    problem.textContent = { NotAllowedError: words.denied, NotFoundError: words.missing }[error.name] ?? words.failed;
    return;
  }
  view.hidden = kind === "voice";
  view.srcObject = view.hidden ? null : open.stream;
  if (!view.hidden) view.play();
  use.textContent = kind === "picture" ? words.shoot : words.start;
  status.textContent = kind === "voice" ? words.readyVoice : words.ready;
  panel.hidden = false;
  use.focus();
}

// Switches camera and microphone off.
function stop() {
  if (!open) return;
  clearInterval(open.timer);
  for (const track of open.stream.getTracks()) track.stop();
  view.srcObject = null;
  panel.hidden = true;
  open = null;
}

function finish(blob, name) {
  stop();
  const chosen = new DataTransfer();
  chosen.items.add(new File([blob], name, { type: blob.type }));
  input.files = chosen.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
  status.textContent = words.done;
  document.getElementById("send").focus();
}

function shoot() {
  const canvas = document.createElement("canvas");
  canvas.width = view.videoWidth;
  canvas.height = view.videoHeight;
  if (!canvas.width) return; // the camera has not sent a frame yet
  canvas.getContext("2d").drawImage(view, 0, 0);
  canvas.toBlob((blob) => finish(blob, "camera.jpg"), "image/jpeg", JPEG_QUALITY);
}

function record() {
  const recording = open;
  const recorder = new MediaRecorder(recording.stream, { mimeType: supportedType(recording.kind) });
  const type = recorder.mimeType.split(";")[0];
  recording.recorder = recorder;
  recorder.addEventListener("dataavailable", ({ data }) => {
    recording.chunks.push(data);
    const bytes = recording.chunks.reduce((sum, chunk) => sum + chunk.size, 0);
    if (bytes > 0.9 * words.maxMb * MEGABYTE && recorder.state === "recording") recorder.stop();
  });
  recorder.addEventListener("stop", () => {
    if (open !== recording) return; // cancelled
    finish(new Blob(recording.chunks, { type }), `${recording.kind}.${type.endsWith("mp4") ? "mp4" : "webm"}`);
  });
  recorder.start(1000);
  const begun = performance.now();
  const show = () => {
    const seconds = Math.floor((performance.now() - begun) / 1000);
    const time = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    status.textContent = words.recording.replace("{time}", time);
    if (seconds >= LONGEST_S && recorder.state === "recording") recorder.stop();
  };
  show();
  recording.timer = setInterval(show, 1000);
  use.textContent = words.stop;
}

use.addEventListener("click", () => {
  if (open.kind === "picture") shoot();
  else if (open.recorder === null) record();
  else if (open.recorder.state === "recording") open.recorder.stop();
});
cancel.addEventListener("click", () => {
  const { opener } = open;
  stop();
  status.textContent = "";
  opener.focus();
});
panel.addEventListener("keydown", (event) => { if (event.key === "Escape") cancel.click(); });
addEventListener("pagehide", stop);

if (navigator.mediaDevices?.getUserMedia) {
  for (const opener of openers) {
    opener.hidden = opener.dataset.capture !== "picture" && !supportedType(opener.dataset.capture);
    opener.addEventListener("click", () => start(opener));
  }
  part.hidden = false;
}
