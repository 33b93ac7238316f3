// Jumps to a time of the video or recording when a bar or a face is chosen. Without this file the links open it there.

const player = document.getElementById("player");

document.addEventListener("click", (event) => {
  const chosen = event.target.closest("[data-time]");
  if (!chosen || player.error) return;
  event.preventDefault();
  player.currentTime = Number(chosen.dataset.time);
  player.scrollIntoView({ block: "nearest", behavior: "smooth" });
  player.focus();
});
