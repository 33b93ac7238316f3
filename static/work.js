// Follows the work on an upload and shows the result when there is one. Without this file the page renews itself.

const EVERY_MS = 1000;

const work = document.getElementById("work");
const progress = document.getElementById("progress");
const words = document.getElementById("progress-words");

async function look() {
  try {
    const response = await fetch(work.dataset.address, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(response.statusText);
    const seen = await response.json();
    if (seen.is_over) {
      location.reload();
      return;
    }
    if (seen.progress === null) progress.removeAttribute("value");
    else progress.value = seen.progress;
    if (words.textContent !== seen.words) words.textContent = seen.words;
  } catch {
    words.textContent = "The server does not answer; trying again.";
  }
  setTimeout(look, EVERY_MS);
}

setTimeout(look, EVERY_MS);
