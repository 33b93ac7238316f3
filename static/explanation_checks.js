// Shows that the check is running and prevents a second request. Without this file the page waits for the response.

const form = document.getElementById("explanation-checks");

form.addEventListener("submit", (event) => {
  if (form.classList.contains("busy")) event.preventDefault();
  form.classList.add("busy");
});
addEventListener("pageshow", () => form.classList.remove("busy")); // back from the next page
