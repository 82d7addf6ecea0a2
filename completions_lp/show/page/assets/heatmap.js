// Layer by multiplier: every cell is a condition, with its number and its colour.

import { meta } from "./blocks.js";
import { make } from "./nodes.js";
import { drawLegend, findLimit, paint } from "./scales.js";
import { reveal } from "./scrolling.js";
import {
  DOSE,
  change,
  chosen,
  conditions,
  countPrompts,
  findCondition,
  findRow,
  layersOf,
  multipliersOf,
  onChange,
  readNumber,
  state,
  summary,
  unitOf,
  writeLayer,
  writePlace,
} from "./state.js";
import { ROUNDING, writeMultiplier, writeQuantity } from "./words.js";

const RED_SHARE = 0.1; // above this share of untrusted prompts a cell is marked
const [, RED] = meta.trust.at(-1); // the quantity that tells it
export const isRed = (index) => readNumber(findRow(index, `${RED}|macro`)) > RED_SHARE;
let heatCells = new Map(); // by index of the condition

export function drawHeat() {
  const place = document.getElementById("heat");
  const { name } = chosen();
  const layers = layersOf(name);
  const multipliers = multipliersOf(name).reverse();
  const unit = unitOf(state.quantity);
  place.replaceChildren();
  place.style.setProperty("--columns", layers.length);
  heatCells = new Map();
  const head = make("div", { role: "row" }, make("span", { role: "columnheader", class: "corner" }, DOSE));
  head.append(...layers.map((layer) => make("span", { role: "columnheader", class: "layer" }, writeLayer(layer))));
  const rows = multipliers.map((multiplier) => {
    const dose = chosen().kind === "rival" ? "–" : writeMultiplier(multiplier);
    const row = make("div", { role: "row" }, make("span", { role: "rowheader" }, dose));
    for (const layer of layers) {
      const condition = findCondition(name, layer, multiplier);
      const cell = make("span", { role: "gridcell", class: condition ? "cell" : "cell none" });
      if (condition) {
        heatCells.set(condition.index, cell);
        cell.dataset.condition = condition.index;
      }
      row.append(cell);
    }
    return row;
  });
  place.append(...rows, head, make("div", { class: "axis-name", "aria-hidden": "true" }, "layer"));
  const values = [...heatCells.keys()].map((index) => readNumber(findRow(index, state.quantity)));
  const limit = findLimit(values, 0.98);
  for (const [index, cell] of heatCells) fillCell(cell, conditions[index], limit, unit);
  const key = (kind, words) => make("span", { class: "key" }, make("span", { class: `cell ${kind}` }), words);
  const cells = [...heatCells.keys()];
  drawLegend(document.getElementById("heat-legend"), limit, unit, {
    both: values.some((v) => v < 0),
    notes: [
      cells.some(isClear) ? key("clear", "dot: p < .05 adjusted for the sweep (max-T)") : null,
      cells.some(isRed) ? key("red", "dark corner: more than 10 % of the prompts red, not to be trusted") : null,
    ],
  });
  markChosen();
}

const isClear = (index) => readNumber(findRow(index, state.quantity), "p_max_t") < 0.05;

function fillCell(cell, condition, limit, unit) {
  const row = findRow(condition.index, state.quantity);
  const value = readNumber(row);
  const [quantity] = state.quantity.split("|");
  const size = Math.abs(value);
  const decimals = size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.095 || size < ROUNDING ? 2 : 3;
  cell.textContent = writeQuantity(value, quantity, false, decimals);
  cell.classList.toggle("red", isRed(condition.index));
  cell.classList.toggle("clear", isClear(condition.index));
  cell.classList.toggle("long", cell.textContent.length > 6);
  const words = `${writePlace(condition)}: ${describeNumber(row, quantity)}`;
  cell.title = words;
  cell.setAttribute("aria-label", words);
  paint(cell, value, limit);
}

/** A number with its interval and unit, and of how many prompts it is, in one line. */
export function describeNumber(row, quantity) {
  if (row === undefined) return "not measured";
  const [low, high] = [readNumber(row, "low"), readNumber(row, "high")];
  const inside =
    Number.isFinite(low) && Number.isFinite(high)
      ? ` [${writeQuantity(low, quantity)}, ${writeQuantity(high, quantity)}]`
      : "";
  return `${writeQuantity(readNumber(row), quantity)}${inside} ${summary.columns.unit[row]}; ${countPrompts(row)}`;
}

function markChosen() {
  for (const [index, cell] of heatCells) {
    const here = index === state.condition;
    cell.setAttribute("aria-selected", String(here));
    cell.tabIndex = here ? 0 : -1;
    if (here) reveal(document.getElementById("heat-scroll"), cell, findEdge());
  }
}

/** How wide the names of the rows are, which stay where they are while the rest scrolls. */
export const findEdge = () => document.querySelector("#heat [role=rowheader]").offsetWidth;

/** Arrow keys go to the next cell that there is, Home and End to the ends of the row. */
function moveInHeat(event) {
  const cell = event.target.closest("[data-condition]");
  if (!cell) return;
  const { name, layer, multiplier } = conditions[cell.dataset.condition];
  const along = {
    ArrowLeft: [-1, 0],
    ArrowRight: [1, 0],
    ArrowUp: [0, 1],
    ArrowDown: [0, -1],
    Home: [-Infinity, 0],
    End: [Infinity, 0],
  }[event.key];
  if (!along) return;
  event.preventDefault();
  const [values, here] = along[0] ? [layersOf(name), layer] : [multipliersOf(name), multiplier];
  const found = (value) => (along[0] ? findCondition(name, value, multiplier) : findCondition(name, layer, value));
  const able = values.filter(found);
  const step = along[0] || along[1];
  const to = able[Math.max(0, Math.min(able.length - 1, able.indexOf(here) + step))];
  const next = found(to);
  change({ condition: next.index });
  heatCells.get(next.index)?.focus();
}

export function startHeat() {
  const place = document.getElementById("heat");
  place.addEventListener("keydown", moveInHeat);
  place.addEventListener("click", (event) => {
    const cell = event.target.closest("[data-condition]");
    if (cell) change({ condition: Number(cell.dataset.condition) });
  });
  onChange((changed) => {
    if (changed.has("quantity") || (changed.has("condition") && !heatCells.has(state.condition))) drawHeat();
    else if (changed.has("condition")) markChosen();
  });
}
