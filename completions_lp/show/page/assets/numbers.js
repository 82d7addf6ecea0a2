// The numbers of the chosen condition: a few cards, then all of them, as they are in summary.csv.

import { meta } from "./blocks.js";
import { make, plainText } from "./nodes.js";
import { markTrust } from "./scales.js";
import {
  change,
  chosen,
  countPrompts,
  findRow,
  listQuantities,
  onChange,
  readNumber,
  state,
  summary,
  writePlace,
} from "./state.js";
import {
  GROUPS,
  ROUNDING,
  WEIGHTINGS,
  decimalsOf,
  groupOf,
  isSigned,
  label,
  meaning,
  nameQuantity,
  write,
  writeMultiplier,
  writeQuantity,
} from "./words.js";

const EXTRA = [
  ["se", "Std. error"],
  ["boot_low", "Bootstrap-t low"],
  ["boot_high", "high"],
  ["band_low", "Band low"],
  ["band_high", "high"],
  ["p_t", "p (t)"],
  ["p_signflip", "p (sign flip)"],
  ["p_holm", "p (Holm)"],
  ["p_bh", "p (BH)"],
  ["p_max_t", "p (max-T)"],
  ["random_low", "Random low"],
  ["random_high", "high"],
  ["p_rank", "p (rank)"],
  ["p_predictive", "p (predictive)"],
  ["p_rank_shuffled", "p (shuffled)"],
  ["selection_frequency", "Best in resamples"],
  ["fixed_se", "Std. error, these prompts"],
];

export function describeCondition() {
  const { factor, multiplier, relative } = chosen();
  const told = [
    ...(factor === multiplier ? [] : [`multiplier ${writeMultiplier(Number(factor.toPrecision(4)))}`]),
    ...(relative > 0 ? [`what is added is ${relative.toPrecision(2)} × as long as the residual stream`] : []),
  ];
  return [plainText(chosen().name), writePlace(chosen()), ...told].join(", ");
}

export function drawNumbers() {
  document.getElementById("numbers-where").textContent = describeCondition();
  drawCards();
  drawTable();
}

function drawCards() {
  const cards = meta.cards
    .map((quantity) => [quantity, findRow(state.condition, `${quantity}|macro`)])
    .filter(([, row]) => row !== undefined)
    .slice(0, 5)
    .map(([quantity, row]) => drawCard(quantity, row));
  const trust = drawTrust();
  document.getElementById("cards").replaceChildren(...cards, ...(trust ? [trust] : []));
}

/** One number of all prompts with its interval; where there is a held-out half, its own number stands below. */
function drawCard(quantity, row) {
  const held = summary.held.get(`${state.condition}|${quantity}|macro`);
  const say = (place, ends = ["low", "high"]) => ends.map((end) => writeQuantity(readNumber(place, end), quantity));
  const inside = (place) => (Number.isFinite(readNumber(place, "low")) ? say(place).join(" to ") : "no interval");
  const small = (...words) => make("p", { class: "inside" }, ...words);
  return make(
    "div",
    { class: "card", title: meaning(quantity) },
    make("h3", {}, label(quantity)),
    make("p", { class: "value" }, ...say(row, ["value"]), make("span", { class: "unit" }, summary.columns.unit[row])),
    small(inside(row)),
    small(`mean over ${countPrompts(row)}`),
    held === undefined ? null : small(`${countPrompts(held)}: ${say(held, ["value"])}, ${inside(held)}`),
  );
}

/** The shares of prompts by trust, as one bar and in words. */
function drawTrust() {
  const shares = meta.trust.map(([name, quantity]) => [name, findRow(state.condition, `${quantity}|macro`)]);
  const [, known] = shares.find(([, row]) => Number.isFinite(readNumber(row))) ?? [];
  if (known === undefined) return null;
  const bar = make("div", { class: "trust", "aria-hidden": "true" });
  const there = shares.filter(([, row]) => readNumber(row) > 0);
  for (const [name, row] of there) {
    const part = make("span", { class: name });
    part.style.flexGrow = readNumber(row);
    bar.append(part);
  }
  const words = there.map(([name, row]) =>
    make("span", { class: "kind" }, markTrust(name), ` ${write(100 * readNumber(row), { decimals: 0 })} % ${name}`),
  );
  return make(
    "div",
    { class: "card", title: "How far the steered probability can be trusted, by prompt" },
    make("h3", {}, "Trust"),
    bar,
    make("p", { class: "inside kinds" }, ...words),
    make("p", { class: "inside" }, `of ${countPrompts(known)}`),
  );
}

const UNSTEERED = "Without steering";
const openGroups = new Set([...GROUPS.slice(0, 2), UNSTEERED]);

function drawTable() {
  const wanted = document.getElementById("quantity-filter").value.trim().toLowerCase();
  const extra = state.inference ? EXTRA.filter(([column]) => summary.columns[column]) : [];
  const heads = [
    "Quantity",
    "Value",
    "Low",
    "High",
    "Unit",
    "Prompts",
    "Left out",
    "Method",
    ...extra.map(([, name]) => name),
  ];
  const numeric = new Set(["Value", "Low", "High", "Prompts", "Left out", ...extra.map(([, name]) => name)]);
  const head = make(
    "thead",
    {},
    make(
      "tr",
      {},
      ...heads.map((name) => make("th", { scope: "col", class: numeric.has(name) ? "number" : null }, name)),
    ),
  );
  const bodies = [];
  let group = "";
  for (const { key, row, held, unsteered } of listRows()) {
    const [quantity] = key.split("|");
    if (wanted && !`${quantity} ${nameQuantity(key)}`.toLowerCase().includes(wanted)) continue;
    const name = unsteered ? UNSTEERED : held ? HELD : groupOf(quantity);
    const open = Boolean(wanted) || openGroups.has(name);
    if (name !== group) {
      group = name;
      bodies.push(
        make(
          "tbody",
          {},
          make(
            "tr",
            { class: "group" },
            make("th", { colspan: heads.length, scope: "rowgroup" }, drawGroup(name, open)),
          ),
        ),
      );
    }
    const line = drawRow(key, row, { held, unsteered, extra });
    line.hidden = !open;
    bodies.at(-1).append(line);
  }
  document
    .getElementById("table")
    .replaceChildren(make("caption", { class: "hidden" }, `All quantities: ${describeCondition()}`), head, ...bodies);
}

const HELD = "On the held-out half: this cell was chosen on the other half";

/** All numbers of the condition, in their order; then those of a held-out half, and those of the unsteered model. */
function listRows() {
  const rows = (map, keys, condition, kind) =>
    keys.map((key) => ({ key, row: map.get(`${condition}|${key}`), ...kind })).filter(({ row }) => row !== undefined);
  return [
    ...rows(summary.row, listQuantities(), state.condition, {}),
    ...rows(summary.held, listQuantities(), state.condition, { held: true }),
    ...rows(summary.row, listQuantities(true), -1, { unsteered: true }),
  ];
}

/** The heading of a group of rows, which opens and closes it. */
function drawGroup(name, open) {
  const button = make("button", { type: "button", class: "group-name", "aria-expanded": String(open) }, name);
  button.addEventListener("click", () => {
    if (!openGroups.delete(name)) openGroups.add(name);
    drawTable();
    [...document.querySelectorAll("#table .group-name")].find((other) => other.textContent === name)?.focus();
  });
  return button;
}

function drawRow(key, row, { held, unsteered, extra }) {
  const [quantity, weighting] = key.split("|");
  const show = (column) => writeQuantity(readNumber(row, column), quantity, state.exact);
  const numbers = ["value", "low", "high"].map((column) =>
    make("td", { class: "number", "data-column": column }, show(column)),
  );
  const counts = ["n_prompts", "n_dropped"].map((column) =>
    make("td", { class: "number", "data-column": column }, write(readNumber(row, column), { decimals: 0 })),
  );
  const more = extra.map(([column]) => {
    const value = readNumber(row, column);
    const inUnit = !column.startsWith("p_") && column !== "selection_frequency";
    const decimals = inUnit ? Math.max(decimalsOf(quantity), 2) : 3;
    const sign = inUnit && !column.endsWith("se") && isSigned(quantity);
    const text = write(value, { decimals, sign, exact: state.exact, zero: inUnit ? ROUNDING : 0 });
    return make("td", { class: "number", "data-column": column }, Number.isFinite(value) ? text : "");
  });
  const chosenHere = key === state.quantity && !unsteered && !held;
  const partner = weighting !== "macro" && summary.row.has(`${state.condition}|${quantity}|macro`); // stands below it
  const words = partner ? (WEIGHTINGS[weighting] ?? weighting) : nameQuantity(key);
  const pick =
    unsteered || held
      ? make("span", { title: meaning(quantity) }, words)
      : make(
          "button",
          { type: "button", class: "name", title: meaning(quantity), "aria-pressed": String(chosenHere) },
          words,
        );
  if (!unsteered && !held) pick.addEventListener("click", () => change({ quantity: key }));
  const name = make(
    "th",
    { scope: "row", class: partner ? "partner" : null },
    pick,
    partner ? null : make("code", {}, quantity),
  );
  const method = make(
    "td",
    { class: "method" },
    Number.isFinite(readNumber(row, "low")) ? summary.columns.method[row] : "no interval",
  );
  return make(
    "tr",
    {
      "data-quantity": quantity,
      "data-weighting": weighting,
      "data-split": held ? "report" : "all",
      "data-unsteered": unsteered ? "" : null,
      class: chosenHere ? "here" : null,
    },
    name,
    ...numbers,
    make("td", {}, summary.columns.unit[row]),
    ...counts,
    method,
    ...more,
  );
}

export function startNumbers() {
  for (const id of ["exact", "inference"]) {
    document.getElementById(id).addEventListener("change", (event) => change({ [id]: event.target.checked }));
  }
  document
    .getElementById("columns")
    .addEventListener("change", (event) => document.getElementById("table").classList.toggle("named", event.target.checked));
  document.getElementById("quantity-filter").addEventListener("input", drawTable);
  onChange((changed) => {
    if (changed.has("condition")) drawNumbers();
    else if (["quantity", "exact", "inference"].some((key) => changed.has(key))) drawTable();
  });
}
