// The diverging colour scale: the square root of the value, from blue (down) over nothing to orange (up).

import { make } from "./nodes.js";
import { ROUNDING, TRUST_MARKS, minus } from "./words.js";

/** A limit for the scale: the quantile of the absolute values, rounded up to a round number. */
export function findLimit(values, quantile) {
  const sizes = Array.from(values, Math.abs)
    .filter((value) => Number.isFinite(value) && value > ROUNDING)
    .sort((a, b) => a - b);
  if (sizes.length === 0) return 1;
  const size = sizes[Math.min(sizes.length - 1, Math.floor(quantile * sizes.length))];
  const power = 10 ** Math.floor(Math.log10(size));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= size * (1 - 1e-9));
}

/** Colour a node by a value; its text keeps the page's ink, which is readable on both ends. */
export function paint(node, value, limit) {
  node.classList.remove("up", "down");
  if (!Number.isFinite(value) || Math.abs(value) < ROUNDING) return;
  node.classList.add(value > 0 ? "up" : "down");
  node.style.setProperty("--much", Math.sqrt(Math.min(Math.abs(value) / limit, 1)).toFixed(3));
}

/** The legend: the scale as a row of swatches with numbers below. */
export function drawLegend(place, limit, unit, { both = true, notes = [] } = {}) {
  const steps = both ? [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1] : [0, 0.25, 0.5, 0.75, 1];
  const bar = make("div", {
    class: "bar",
    role: "img",
    "aria-label": `Colour scale from ${both ? -limit : 0} to ${limit} ${unit}`,
  });
  for (const step of steps) {
    const value = Math.sign(step) * step * step * limit;
    const end = Math.abs(step) === 1 ? (step > 0 ? "≥ " : "≤ ") : "";
    const shown =
      Math.abs(step) === 0.75 || Math.abs(step) === 0.25
        ? ""
        : end + minus((value > 0 ? "+" : "") + Number(value.toPrecision(3)));
    const swatch = make("span", { class: "swatch" });
    paint(swatch, value, limit);
    bar.append(make("span", { class: "step" }, swatch, make("span", { class: "tick" }, shown)));
  }
  place.replaceChildren(bar, make("span", { class: "unit" }, unit), make("span", { class: "legend-note" }, ...notes));
}

/** How far something can be trusted, as a mark in its colour; the word stands beside it. */
export const markTrust = (name) =>
  make("span", { class: `mark ${name}`, "aria-hidden": "true" }, TRUST_MARKS[name] ?? "");

/** Round numbers that cover a range, for an axis. */
export function findTicks(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((s) => s * power).find((s) => s >= rough);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++)
    ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}
