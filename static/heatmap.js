// A slider for the strength of the heat maps. Without this file they have the style sheet's strength.

const maps = document.querySelectorAll(".heat");
const slider = document.getElementById("heat-opacity");
const shown = document.getElementById("show-heat");

function apply() {
  for (const map of maps) map.style.opacity = slider.value / slider.max;
  slider.disabled = !shown.checked;
}

document.getElementById("opacity").hidden = false;
slider.addEventListener("input", apply);
shown.addEventListener("change", apply);
apply();
