// Fetches the page of a batch again while its files are being checked, and takes over what has changed of the rows that
// are shown. Without this file the page reloads itself.

const EVERY_MS = 2000;

const work = document.getElementById("batch-work");
const progress = document.getElementById("progress");
const words = document.getElementById("progress-words");

function takeOver(page, id) {
  const fresh = page.getElementById(id), old = document.getElementById(id);
  if (fresh && old && fresh.outerHTML !== old.outerHTML) old.replaceWith(fresh);
}

// The focus stays on the link of a file, also when its row is replaced.
function takeOverRows(page) {
  const fresh = page.getElementById("rows"), rows = document.getElementById("rows");
  if (!fresh || !rows) {
    takeOver(page, "found"); // the first file that fits the search, or the last one that did
    return;
  }
  const focused = rows.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const now = new Map([...rows.children].map((row) => [row.id, row]));
  const next = [...fresh.children].map((row) => (now.get(row.id)?.outerHTML === row.outerHTML ? now.get(row.id) : row));
  if (next.length === rows.children.length && next.every((row, place) => row === rows.children[place])) return;
  rows.replaceChildren(...next);
  if (focused) rows.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

async function poll() {
  try {
    const response = await fetch(location.href);
    if (response.status === 404) { // deleted in another tab; the reloaded page reports it
      location.reload();
      return;
    }
    if (!response.ok) throw new Error(response.statusText);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const freshProgress = page.getElementById("progress");
    if (!freshProgress) { // every file is done
      location.reload();
      return;
    }
    progress.value = freshProgress.value;
    const sentence = page.getElementById("progress-words").textContent;
    if (words.textContent !== sentence) words.textContent = sentence; // screen readers announce every change
    takeOver(page, "outcomes");
    takeOver(page, "results"); // the heading with the number of rows
    takeOver(page, "pager");
    takeOverRows(page);
  } catch {
    words.textContent = work.dataset.failed;
  }
  setTimeout(poll, EVERY_MS);
}

setTimeout(poll, EVERY_MS);
