// A slider for the strength of the heat map; without this file it is shown at the style sheet's strength.

const heat = document.getElementById("heat");
const slider = document.getElementById("heat-opacity");
const shown = document.getElementById("show-heat");

function apply() {
  heat.style.opacity = slider.value / slider.max;
  slider.disabled = !shown.checked;
}

document.getElementById("opacity").hidden = false;
slider.addEventListener("input", apply);
shown.addEventListener("change", apply);
apply();
