// The prompt picker and the numbers of one prompt.

import { hasBlock, meta, readBlock, unquantise } from "./blocks.js";
import { make, showText } from "./nodes.js";
import { markTrust } from "./scales.js";
import { change, state } from "./state.js";
import { decimalsOf, label, meaning, writeCount, writeQuantity } from "./words.js";

const SHOWN_PROMPTS = 300; // options in the list at once; search finds the others
/** The prompts, once they are read: texts, sizes, unsteered numbers; and where each one's completions and tokens start. */
export const prompts = { columns: {}, starts: [], tokens: [] };
let perPrompt = {}; // numbers under the chosen condition
let listed = []; // prompts in the order shown
const isBound = (name) => /_(low|high)$/.test(name); // stands beside what it bounds

export async function loadPrompts() {
  const columns = await readBlock("prompts");
  Object.assign(prompts, { columns, starts: accumulate(columns.size), tokens: accumulate(columns.tokens) });
  const names = [...meta.per_prompt, ...meta.unsteered].filter((name) => !isBound(name));
  const options = names.map((name) => [name, label(name)]);
  const order = document.getElementById("prompt-order");
  order.append(...[["", "as asked"], ...options].map(([value, text]) => make("option", { value }, text)));
}

function accumulate(sizes) {
  const starts = new Int32Array(sizes.length + 1);
  for (let i = 0; i < sizes.length; i++) starts[i + 1] = starts[i] + sizes[i];
  return starts;
}

/** A prompt's number under the chosen condition, or the unsteered one. */
function readPrompt(prompt, name) {
  const column = (meta.per_prompt.includes(name) ? perPrompt : prompts.columns)[name];
  return column ? unquantise(column[prompt], decimalsOf(name)) : NaN;
}

export async function loadPerPrompt() {
  const name = `prompts:${state.condition}`;
  perPrompt = hasBlock(name) ? await readBlock(name) : {};
}

export function drawPromptList() {
  const wanted = document.getElementById("prompt-search").value.trim().toLowerCase();
  const column = document.getElementById("prompt-order").value;
  const { id, text } = prompts.columns;
  listed = Array.from(id.keys()).filter(
    (i) => !wanted || id[i].toLowerCase().includes(wanted) || text[i].toLowerCase().includes(wanted),
  );
  if (column) {
    const value = Float64Array.from(id, (_, i) => readPrompt(i, column));
    listed.sort((a, b) => compare(value[b], value[a]) || a - b);
  }
  const options = listed.slice(0, SHOWN_PROMPTS).map((i) => {
    const number = column ? writeQuantity(readPrompt(i, column), column) : "";
    const words = make("bdi", { class: "words" }, ...showText(text[i].replace(/\s+/g, " ").slice(0, 90)));
    return make(
      "div",
      { role: "option", id: `prompt-${i}`, "data-prompt": i, "aria-selected": String(i === state.prompt) },
      make("span", { class: "place" }, String(i + 1)),
      words,
      make("span", { class: "number" }, number),
    );
  });
  const list = document.getElementById("prompt-list");
  list.replaceChildren(...options);
  const hidden = listed.length - options.length;
  document.getElementById("prompt-count").textContent =
    `${writeCount(listed.length)} of ${writeCount(id.length)} prompts${hidden ? `; the first ${SHOWN_PROMPTS} are listed` : ""}`;
  markPrompt();
}

/** Descending order's comparison; what is undefined goes last. */
export function compare(a, b) {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) ? (Number.isNaN(b) ? 0 : -1) : 1;
  return a - b;
}

function markPrompt() {
  const list = document.getElementById("prompt-list");
  for (const option of list.querySelectorAll("[aria-selected=true]")) option.setAttribute("aria-selected", "false");
  const option = document.getElementById(`prompt-${state.prompt}`);
  if (option) {
    option.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", option.id);
    const [above, below] = [option.offsetTop, option.offsetTop + option.offsetHeight];
    if (above < list.scrollTop) list.scrollTop = above;
    else if (below > list.scrollTop + list.clientHeight) list.scrollTop = below - list.clientHeight;
  } else list.removeAttribute("aria-activedescendant");
}

/** Go some prompts on in the order shown. */
export function walk(steps) {
  const here = listed.indexOf(state.prompt);
  const to = listed[Math.max(0, Math.min(listed.length - 1, here < 0 ? 0 : here + steps))];
  if (to !== undefined) change({ prompt: to });
}

export function drawPrompt() {
  const i = state.prompt;
  const place = listed.indexOf(i);
  document.getElementById("prompt-place").textContent =
    `${writeCount((place < 0 ? i : place) + 1)} of ${writeCount(listed.length || prompts.columns.id.length)}`;
  document.getElementById("prompt-id").replaceChildren(...showText(prompts.columns.id[i]));
  document.getElementById("prompt-body").replaceChildren(...showText(prompts.columns.text[i], { breaks: false }));
  document.getElementById("prompt-numbers").replaceChildren(...listPromptNumbers(i));
}

function listPromptNumbers(i) {
  const facts = [];
  const add = (name, column, note, ...shown) =>
    facts.push(
      make(
        "div",
        { "data-column": column, title: note },
        make("dt", {}, name),
        make("dd", {}, ...shown.filter(Boolean)),
      ),
    );
  const text = (name) => writeQuantity(readPrompt(i, name), name);
  const addNumber = (name) => {
    const bounded = Number.isFinite(readPrompt(i, `${name}_low`));
    const bounds = bounded ? `[${text(`${name}_low`)}, ${text(`${name}_high`)}]` : "";
    add(
      label(name),
      name,
      meaning(name),
      text(name),
      bounded ? make("span", { class: "bounds", title: "proven bounds" }, bounds) : null,
    );
  };
  const { matching } = prompts.columns;
  if (matching[i]) add("Matching answer", "matching", "", make("bdi", {}, ...showText(matching[i])));
  for (const name of meta.unsteered) if (!isBound(name)) addNumber(name);
  const trust = perPrompt.trust?.[i];
  const note = "How far the steered probability can be trusted";
  if (trust) add("Trust", "trust", note, make("span", {}, markTrust(trust), ` ${trust}`));
  for (const name of meta.per_prompt) if (!isBound(name)) addNumber(name);
  return facts;
}

export function startPrompts() {
  const list = document.getElementById("prompt-list");
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[data-prompt]");
    if (option) change({ prompt: Number(option.dataset.prompt) });
  });
  list.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
    if (steps === undefined) return;
    event.preventDefault();
    walk(steps);
  });
  document.getElementById("prompt-search").addEventListener("input", drawPromptList);
  document.getElementById("prompt-order").addEventListener("change", drawPromptList);
  document.getElementById("prompt-before").addEventListener("click", () => walk(-1));
  document.getElementById("prompt-next").addEventListener("click", () => walk(1));
}
