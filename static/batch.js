// Fetches the page of a batch again while its files are being checked, and takes over what has changed. Without this
// file the page reloads itself.

const EVERY_MS = 2000;

const work = document.getElementById("batch-work");
const progress = document.getElementById("progress");
const words = document.getElementById("progress-words");
const rows = document.getElementById("rows");

function takeOver(fresh, old) {
  if (fresh && old && fresh.outerHTML !== old.outerHTML) old.replaceWith(fresh);
}

function takeOverRows(page) {
  const fresh = [...page.getElementById("rows").children];
  const order = fresh.map((row) => row.id);
  for (const row of fresh) takeOver(row, document.getElementById(row.id));
  const isSame = order.every((id, place) => rows.children[place]?.id === id);
  // Rows that move would lose the focus.
  if (!isSame && !rows.contains(document.activeElement)) {
    rows.replaceChildren(...order.map((id) => document.getElementById(id)).filter(Boolean));
  }
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
    takeOver(page.getElementById("outcomes"), document.getElementById("outcomes"));
    takeOverRows(page);
  } catch {
    words.textContent = work.dataset.failed;
  }
  setTimeout(poll, EVERY_MS);
}

setTimeout(poll, EVERY_MS);
