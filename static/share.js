// A button that copies a new share link; without this file the link can be selected and copied by hand.

const field = document.getElementById("new-link");
const button = document.getElementById("copy-link");
const status = document.getElementById("copy-status");

button.hidden = !navigator.clipboard; // only pages over https or on this machine may write to the clipboard
button.addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(field.value);
    status.textContent = button.textContent = button.dataset.copied;
  } catch {
    field.select(); // the browser refused, so the person copies it
  }
});
field.addEventListener("focus", () => field.select());
