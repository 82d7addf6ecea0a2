// What is chosen, and the summary from which everything above the explorer is read.

import { meta, readBlock } from "./blocks.js";
import { orderOf, writeCount, writeMultiplier } from "./words.js";

/** What is done apart from adding at single layers: each such way of a vector is chosen from like a vector. */
const list = ([, , layer, , positions, site, operation]) => [
  ...(positions === meta.conditions[0][4] ? [] : [positions]),
  ...(operation === "add" ? [] : [operation]),
  ...(site === String(layer) ? [] : [`layers ${site} at once`]),
];

/** A condition's `multiplier` is its dose, in the unit of the sweep; its `factor` is what the vector is multiplied with. */
const fields = ["vector", "kind", "layer", "multiplier", "positions", "site", "operation", "factor", "relative"];
/** What doses are called. */
export const DOSE = meta.dose;
export const conditions = meta.conditions.map((values, index) => ({
  ...Object.fromEntries(fields.map((field, i) => [field, values[i]])),
  index,
  name: [values[0], ...list(values).map((word) => `(${word})`)].join(" "),
}));
export const vectors = [...new Set(conditions.map((c) => c.name))];
export const state = { condition: 0, quantity: "", prompt: 0, exact: false, inference: false };
const listeners = [];
/**
 * The summary, once it is read; by "condition|quantity|weighting" the row of a number of all prompts (`row`), or of a
 * held-out half (`held`).
 */
export const summary = { columns: {}, row: new Map(), held: new Map() };

export const onChange = (listener) => listeners.push(listener);

/** Change what is chosen, and let every part of the page that depends on it follow. */
export function change(changes) {
  const changed = new Set(Object.keys(changes).filter((key) => state[key] !== changes[key]));
  if (changed.size === 0) return;
  Object.assign(state, changes);
  rememberState();
  for (const listener of listeners) listener(changed);
}

/** What a layer and a multiplier are called; a rival has neither. */
export const writeLayer = (layer) => (layer < 0 ? "–" : String(layer));
export const writePlace = ({ kind, layer, site, multiplier }) =>
  kind === "rival"
    ? "rival"
    : `layer${site === String(layer) ? "" : "s"} ${site}, ${DOSE} ${writeMultiplier(multiplier)}`;

export const chosen = () => conditions[state.condition];
const unique = (values) => [...new Set(values)];
export const layersOf = (name) =>
  unique(conditions.filter((c) => c.name === name).map((c) => c.layer)).sort((a, b) => a - b);
export const multipliersOf = (name, layer) =>
  unique(
    conditions.filter((c) => c.name === name && (layer === undefined || c.layer === layer)).map((c) => c.multiplier),
  ).sort((a, b) => a - b);
export const findCondition = (name, layer, multiplier) =>
  conditions.find((c) => c.name === name && c.layer === layer && c.multiplier === multiplier);
const nearest = (values, wanted) => values.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a));

/** Choose a condition by what is wanted of it; what the run does not have gives way to what is nearest. */
export function choose({ name = chosen().name, layer = chosen().layer, multiplier = chosen().multiplier }) {
  const at = nearest(layersOf(name), layer);
  const found = findCondition(name, at, nearest(multipliersOf(name, at), multiplier));
  change({ condition: found.index });
}

export async function loadSummary() {
  const columns = await readBlock("summary");
  summary.columns = columns;
  for (let i = 0; i < columns.condition.length; i++) {
    const key = `${columns.condition[i]}|${columns.quantity[i]}|${columns.weighting[i]}`;
    (columns.split[i] === "report" ? summary.held : summary.row).set(key, i);
  }
}

/** The place of a number in the summary, or undefined. */
export const findRow = (condition, quantityKey) => summary.row.get(`${condition}|${quantityKey}`);
export const readNumber = (row, column = "value") => (row === undefined ? NaN : (summary.columns[column]?.[row] ?? NaN));
export const unitOf = (quantityKey) => {
  const row = conditions.map((c) => findRow(c.index, quantityKey)).find((r) => r !== undefined);
  return row === undefined ? "" : summary.columns.unit[row];
};

/** Of how many prompts a number is, in words. */
export function countPrompts(row) {
  const n = readNumber(row, "n_prompts");
  return `${writeCount(n)} ${summary.columns.split[row] === "report" ? "held-out " : ""}prompt${n === 1 ? "" : "s"}`;
}

/** Quantities that steered conditions (or the unsteered model) have, as "quantity|weighting", by group. */
export function listQuantities(unsteered = false) {
  const keys = unique(
    [...summary.row.keys()]
      .filter((key) => key.startsWith("-1|") === unsteered)
      .map((key) => key.slice(key.indexOf("|") + 1)),
  );
  return keys.sort((a, b) => orderOf(a) - orderOf(b));
}

/** What the page starts from: the best cell as the run has it, or any cell of a target vector. */
function findStart() {
  return meta.best ?? conditions.find((c) => c.kind === "target" && (c.multiplier !== 0 || c.operation === "clamp"))?.index ?? 0;
}

/** Keep what is chosen in the page's address, once it has been chosen for a moment. */
function rememberState() {
  clearTimeout(remembering);
  remembering = setTimeout(writeAddress, 150);
}
let remembering = 0;

/** The address keeps what is chosen, also when a link has gone to a place of the page. */
export const watchAddress = () => addEventListener("hashchange", rememberState);

function writeAddress() {
  const { name, layer, multiplier } = chosen();
  const parts = new URLSearchParams({
    vector: name,
    layer,
    multiplier,
    quantity: state.quantity,
    prompt: state.prompt,
  });
  try {
    history.replaceState(null, "", `#${parts}`);
  } catch {
    // some browsers do not let a file change its address: the choice is then not remembered
  }
}

export function recallState() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const wanted = findCondition(parts.get("vector"), Number(parts.get("layer")), Number(parts.get("multiplier")));
  state.condition = wanted?.index ?? findStart();
  const known = listQuantities();
  const first = [parts.get("quantity"), ...meta.cards.map((quantity) => `${quantity}|macro`), ...known];
  state.quantity = first.find((key) => known.includes(key)) ?? "";
  const prompt = Number(parts.get("prompt") ?? 0);
  state.prompt = Number.isInteger(prompt) && prompt >= 0 && prompt < meta.n_prompts ? prompt : 0;
}
