// What quantities are called, by the page's meta, and how numbers are written.

import { meta } from "./blocks.js";

export const WEIGHTINGS = {
  macro: "mean over prompts",
  micro: "pooled over completions",
  marginal: "change of the mean over prompts",
};

const known = Object.keys(meta.quantities); // in the order in which they are shown

export const label = (quantity) => meta.quantities[quantity].label;
export const meaning = (quantity) => meta.quantities[quantity].meaning;
export const groupOf = (quantity) => meta.quantities[quantity].group;
export const isSigned = (quantity) => meta.quantities[quantity].signed;
export const decimalsOf = (quantity) => meta.quantities[quantity].decimals;
export const GROUPS = [...new Set(known.map(groupOf))];

/** Where a "quantity|weighting" stands among all: by quantity, then the mean over prompts first. */
export function orderOf(key) {
  const [quantity, weighting] = key.split("|");
  return known.indexOf(quantity) * 10 + Object.keys(WEIGHTINGS).indexOf(weighting);
}

export const nameQuantity = (key) => {
  const [quantity, weighting] = key.split("|");
  return label(quantity) + (weighting === "macro" ? "" : ` (${WEIGHTINGS[weighting] ?? weighting})`);
};

/** How far a prompt's number can be trusted, as a mark that stands beside the word: never by colour alone. */
export const TRUST_MARKS = { certified: "✓✓", green: "✓", red: "✕" };

export const minus = (text) => text.replaceAll("-", "−");

export const ROUNDING = 1e-12; // what computers leave of a zero; full precision shows it

/** A number for people: real minus signs, a sign where direction matters, and never a zero for what is not zero. */
export function write(value, { decimals = 3, sign = false, exact = false, zero = ROUNDING } = {}) {
  if (!Number.isFinite(value)) return "–";
  if (exact ? value === 0 : value === 0 || Math.abs(value) < zero) return exact ? "0" : (0).toFixed(decimals);
  const text = exact ? String(value) : value.toFixed(decimals);
  return minus((sign && value > 0 ? "+" : "") + (Number(text) === 0 ? writePower(value) : text));
}

/** A small number as a digit and a power of ten. */
function writePower(value) {
  const [digit, power] = value.toExponential(0).split("e");
  return `${digit}·10${[...power]
    .map((sign) => "⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["+-0123456789".indexOf(sign)])
    .join("")
    .replace("⁺", "")}`;
}

/** A number of a quantity, as its unit is written. */
export function writeQuantity(value, quantity, exact = false, digits = decimalsOf(quantity)) {
  const { unit, percent } = meta.quantities[quantity];
  if (percent && !exact && Number.isFinite(value)) return `${write(100 * value, { decimals: 0 })} %`;
  const decimals = unit === "draws" && Number.isInteger(value) ? 0 : digits;
  return write(value, { decimals, exact, sign: isSigned(quantity) });
}

export const writeMultiplier = (value) => minus((value > 0 ? "+" : "") + String(value));
export const writeCount = (value) => value.toLocaleString("en");
