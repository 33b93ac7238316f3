// Runs the robustness test when its section is unfolded, and shows the result in place. Without this file the
// button sends the form and the server answers with the page.

const ID = "robustness-section";
const section = document.getElementById(ID);
const form = document.getElementById("robustness-test");
const progress = document.getElementById("robustness-progress");

async function run() {
  if (form.classList.contains("busy")) return;
  form.classList.add("busy");
  form.querySelector("button").disabled = true;
  progress.textContent = form.dataset.started;
  try {
    const response = await fetch(form.action, { method: "POST", body: new FormData(form) });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const result = page.getElementById(ID);
    if (!response.ok || !result || result.querySelector("form")) throw new Error(response.statusText);
    section.replaceWith(result);
  } catch {
    progress.textContent = form.dataset.failed;
    form.classList.remove("busy");
    form.querySelector("button").disabled = false;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});

const details = section.querySelector("details");
if (details.open) run(); // unfolded before this file arrived
else details.addEventListener("toggle", run, { once: true });
