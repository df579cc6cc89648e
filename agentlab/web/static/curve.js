// Draws the curve of a training, and draws it anew when a new part of the page has come.
"use strict";

const place = document.getElementById("curve");
let drawn = null;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function draw() {
  const given = document.querySelector("[data-curve]");
  if (!place || !given || !window.uPlot) return;
  const curve = JSON.parse(given.dataset.curve);
  const rates = curve.learning_rate.some((rate) => rate !== null);
  const data = rates ? [curve.steps, curve.loss, curve.learning_rate] : [curve.steps, curve.loss];
  const shape = `${data.length} ${place.clientWidth}`;
  document.documentElement.classList.add("drawn");
  if (drawn && drawn.shape === shape) {
    drawn.plot.setData(data);
    return;
  }
  if (drawn) drawn.plot.destroy();
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const series = [{ label: "step" }, { label: "loss", stroke: colour("--accent"), width: 1.5 }];
  const axes = [axis, { ...axis, label: "loss", labelSize: 20 }];
  if (rates) {
    series.push({ label: "learning rate", stroke: colour("--warn"), width: 1, dash: [5, 4], scale: "rate", value: (_, rate) => (rate === null ? "–" : rate.toExponential(2)) });
    axes.push({ ...axis, label: "learning rate", labelSize: 20, scale: "rate", side: 1, size: 70, grid: { show: false }, values: (_, ticks) => ticks.map((tick) => tick.toExponential(0)) });
  }
  const options = { width: place.clientWidth, height: 260, series, axes, scales: { x: { time: false } } };
  drawn = { shape, plot: new window.uPlot(options, data, place) };
}

window.addEventListener("resize", draw);
document.addEventListener("htmx:afterSettle", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (drawn) drawn.shape = ""; draw(); });
draw();
