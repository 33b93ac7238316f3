// Shows that the check is under way and keeps it from being asked for twice; without this file the page just waits.

const form = document.getElementById("examination");

form.addEventListener("submit", (event) => {
  if (form.classList.contains("busy")) event.preventDefault();
  form.classList.add("busy");
});
addEventListener("pageshow", () => form.classList.remove("busy")); // back from the next page
