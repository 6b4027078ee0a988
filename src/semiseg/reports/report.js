"use strict";

// Sliders: every plane of a case shows the chosen slice in all of its panels.
for (const viewer of document.querySelectorAll(".case")) {
  const planes = JSON.parse(viewer.querySelector("script").textContent);
  for (const plane of viewer.querySelectorAll(".plane")) {
    const slider = plane.querySelector("input");
    if (slider) {
      const stack = planes[Number(plane.dataset.plane)];
      slider.addEventListener("input", () => show(plane, slider, stack));
      show(plane, slider, stack); // A reload keeps the slider where it was.
    }
  }
}

function show(plane, slider, stack) {
  const cut = stack.slices[Number(slider.value)];
  const words = `${stack.name} ${cut.n} of ${stack.count}`;
  plane.querySelector("output").textContent = words;
  slider.setAttribute("aria-valuetext", words);
  for (const panel of plane.querySelectorAll(".panel")) {
    panel.querySelector("image").setAttribute("href", `data:image/jpeg;base64,${cut.i}`);
    for (const path of panel.querySelectorAll("path")) {
      const paths = path.classList.contains("prediction") ? cut.p[Number(panel.dataset.run)] : cut.t;
      path.setAttribute("d", paths[Number(path.dataset.label)]);
    }
  }
}

const switches = document.querySelectorAll("[data-layer]");
for (const box of switches) {
  box.addEventListener("change", () => layer(box));
  layer(box);
}

function layer(changed) {
  document.body.classList.toggle(`hide-${changed.dataset.layer}`, !changed.checked);
  for (const box of switches) {
    if (box.dataset.layer === changed.dataset.layer) {
      box.checked = changed.checked;
    }
  }
}
