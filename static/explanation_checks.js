// Runs the check of an explanation and shows how far it is. Without this file the page waits for the response.

const EVERY_MS = 700;

const form = document.getElementById("explanation-checks");
const words = document.getElementById("explanation-progress");

async function report() {
  if (!form.classList.contains("busy")) return;
  try {
    const state = await (await fetch(form.dataset.state, { headers: { Accept: "application/json" } })).json();
    const percent = Math.floor(100 * (state.check_progress ?? 0));
    words.textContent = form.dataset.progress.replace("{percent}", percent);
  } catch {
    // the next report may arrive
  }
  setTimeout(report, EVERY_MS);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (form.classList.contains("busy")) return;
  form.classList.add("busy");
  form.querySelector("button").disabled = true;
  words.textContent = form.dataset.started;
  setTimeout(report, EVERY_MS);
  try {
    const response = await fetch(form.action, { method: "POST", body: new FormData(form) });
    if (!response.ok) throw new Error(response.statusText);
    location.hash = "explanation";
    location.reload();
  } catch {
    form.classList.remove("busy");
    form.querySelector("button").disabled = false;
    words.textContent = form.dataset.failed;
  }
});
