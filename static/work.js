// Polls the state of an analysis and shows the result when it is done. Without this file the page reloads itself.

const EVERY_MS = 1000;

const work = document.getElementById("work");
const progress = document.getElementById("progress");
const headline = document.getElementById("work-title");
const words = document.getElementById("progress-words");
const passed = document.getElementById("passed"); // outside the status, or screen readers would announce each second

function update(element, text) {
  if (element.textContent !== text) element.textContent = text; // screen readers announce every change
}

async function poll() {
  try {
    const response = await fetch(work.dataset.address, { headers: { Accept: "application/json" } });
    if (response.status === 404) { // deleted in another tab; the reloaded page reports it
      location.reload();
      return;
    }
    if (!response.ok) throw new Error(response.statusText);
    const state = await response.json();
    if (state.is_over) {
      location.reload();
      return;
    }
    if (state.progress === null) progress.removeAttribute("value");
    else progress.value = state.progress;
    update(headline, state.headline);
    update(words, state.words);
    update(passed, state.passed);
  } catch {
    update(words, work.dataset.failed);
  }
  setTimeout(poll, EVERY_MS);
}

setTimeout(poll, EVERY_MS);
