// Follows the work on an upload and shows the result when there is one. Without this file the page renews itself.

const EVERY_MS = 1000;

const work = document.getElementById("work");
const progress = document.getElementById("progress");
const headline = document.getElementById("work-title");
const words = document.getElementById("progress-words");

function say(element, text) {
  if (element.textContent !== text) element.textContent = text; // or it would be read aloud again and again
}

async function look() {
  try {
    const response = await fetch(work.dataset.address, { headers: { Accept: "application/json" } });
    if (response.status === 404) { // deleted meanwhile, in another tab: the page says so
      location.reload();
      return;
    }
    if (!response.ok) throw new Error(response.statusText);
    const seen = await response.json();
    if (seen.is_over) {
      location.reload();
      return;
    }
    if (seen.progress === null) progress.removeAttribute("value");
    else progress.value = seen.progress;
    say(headline, seen.headline);
    say(words, seen.words);
  } catch {
    say(words, "The server does not answer; trying again.");
  }
  setTimeout(look, EVERY_MS);
}

setTimeout(look, EVERY_MS);
