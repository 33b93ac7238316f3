// Jumps to a time of the video or recording when a drawing or a picture of a moment is clicked, and marks the current
// time in the drawings. Without this file the pictures are links that open the file at their time.

const player = document.getElementById("player");
const problem = document.getElementById("player-problem");
const marks = [...document.querySelectorAll(".playhead")];

function timeAt(event) {
  const moment = event.target.closest("[data-time]");
  if (moment) return Number(moment.dataset.time);
  const drawing = event.target.closest("[data-duration]");
  if (!drawing) return null;
  const { left, width } = drawing.getBoundingClientRect();
  return ((event.clientX - left) / width) * drawing.dataset.duration;
}

function mark() {
  for (const each of marks) {
    each.hidden = player.currentTime === 0;
    each.style.left = `${Math.min(1, player.currentTime / each.parentElement.dataset.duration) * 100}%`;
  }
}

function showProblem() {
  problem.hidden = false;
  document.documentElement.classList.remove("plays");
}

document.addEventListener("click", (event) => {
  const time = timeAt(event);
  if (time === null || player.error) return;
  event.preventDefault();
  player.currentTime = time;
  player.scrollIntoView({ block: "nearest" });
  player.focus({ preventScroll: true });
});
player.addEventListener("timeupdate", mark);
player.addEventListener("seeking", mark);
player.addEventListener("error", showProblem);

document.documentElement.classList.add("plays");
if (player.error) showProblem();
