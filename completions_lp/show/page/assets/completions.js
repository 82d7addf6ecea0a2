// The completions of one prompt: sorted, filtered, coloured, and walked through with the arrow keys.

import { hasBlock, meta, readBlock, unquantise } from "./blocks.js";
import { make, plainText, showText } from "./nodes.js";
import { describeCondition } from "./numbers.js";
import { compare, drawPrompt, drawPromptList, loadPerPrompt, prompts, walk } from "./prompts.js";
import { drawLegend, findLimit } from "./scales.js";
import { watchScroll } from "./scrolling.js";
import { change, conditions, onChange, state } from "./state.js";
import { drawParts, drawTokenTable, drawTokens } from "./tokens.js";
import { write, writeMultiplier } from "./words.js";

const SORTS = {
  to_answer: ["increase to the answer", (c) => c.parts.to_answer],
  increase: ["increase, whole", (c) => c.parts.increase],
  count: ["count", (c) => c.count],
  logprob: ["log prob", (c) => c.logprob],
};
let shownCompletions = [];
let scaleLimits = { condition: -1, tokens: 1, parts: 1 };
let drawing = 0; // the newest request to draw; older ones give up

/** Everything about the completions of the chosen prompt under the chosen condition. */
async function loadCompletions() {
  const { prompt, condition } = state;
  const group = Math.floor(prompt / meta.group);
  const has = { parts: hasBlock(`parts:${condition}`), tokens: hasBlock(`tokens:${condition}`) };
  const [texts, parts, tokens] = await Promise.all([
    readBlock(`texts:${group}`),
    has.parts ? readBlock(`parts:${condition}`) : null,
    has.tokens ? readBlock(`tokens:${condition}`) : null,
  ]);
  setLimits(condition, parts, tokens);
  const first = prompts.starts[prompt] - prompts.starts[group * meta.group];
  let token = 0; // within the group's block
  for (let i = 0; i < first; i++) token += texts.n_tokens[i];
  const all = [];
  for (let i = first; i < first + prompts.columns.size[prompt]; i++) {
    const inside = prompts.starts[prompt] + i - first;
    const slice = (values, start = token) => values.slice(start, start + texts.n_tokens[i]);
    const start = prompts.tokens[group * meta.group] + token;
    all.push({
      number: i - first,
      text: texts.text[i],
      label: texts.label[i],
      count: texts.count[i],
      ended: texts.ended[i],
      answer: texts.answer_index[i],
      reasoning: texts.n_reasoning ? texts.n_reasoning[i] : 0,
      logprob: unquantise(texts.logprob[i], meta.decimals),
      ends: slice(texts.token_end),
      ids: slice(texts.token_id),
      logprobs: slice(texts.token_logprob).map((v) => unquantise(v, meta.decimals)),
      parts: parts ? readParts(parts, inside) : noParts,
      values: tokens ? slice(tokens.increase, start).map((v) => unquantise(v, meta.decimals)) : null,
    });
    token += texts.n_tokens[i];
  }
  return { all, has };
}

const noParts = { increase: NaN, to_answer: NaN, before: NaN, at: NaN, after: NaN, reasoning: NaN };

/** Parts that sum as they are shown: the last two are differences of the rounded others. */
function readParts(columns, i) {
  const read = (name) => (columns[name] ? unquantise(columns[name][i], meta.decimals) : NaN);
  const tidy = (value) => Number(value.toFixed(meta.decimals));
  const [increase, toAnswer, before] = ["increase", "increase_to_answer", "before_answer"].map(read);
  return {
    increase,
    to_answer: toAnswer,
    before,
    reasoning: read("in_reasoning"),
    at: tidy(toAnswer - before),
    after: Number.isNaN(before) ? NaN : tidy(increase - toAnswer),
  };
}

/** The colour scales of a condition: most of its values lie within them. */
function setLimits(condition, parts, tokens) {
  if (scaleLimits.condition === condition) return;
  const sample = (values) => {
    const step = Math.max(1, Math.floor((values?.length ?? 0) / 20000));
    const out = [];
    for (let i = 0; i < (values?.length ?? 0); i += step)
      if (values[i]) out.push(unquantise(values[i], meta.decimals));
    return out;
  };
  scaleLimits = {
    condition,
    tokens: findLimit(sample(tokens?.increase), 0.95),
    parts: findLimit(sample(parts?.increase_to_answer), 0.95),
  };
}

export async function drawExplorer() {
  const turn = ++drawing;
  document.body.dataset.asked = turn;
  await loadPerPrompt();
  const { all, has } = await loadCompletions();
  if (turn !== drawing) return;
  document.getElementById("explorer-where").textContent = describeCondition();
  drawPromptList();
  drawPrompt();
  drawLabels(all);
  noteTokens(has);
  const limit = has.tokens ? scaleLimits.tokens : scaleLimits.parts;
  drawLegend(document.getElementById("token-legend"), limit, has.tokens ? "nats per token" : "nats per part", {
    notes: [
      `the answer’s token is outlined; what comes after it is underlined${all.some((c) => c.reasoning) ? "; reasoning is in italics, and ends at the bar" : ""}`,
    ],
  });
  shownCompletions = all;
  drawList();
  document.body.dataset.drawn = turn; // what was asked for last is on the screen now
}

/** Which labels the prompt's completions have, with their counts of draws. */
function drawLabels(all) {
  const select = document.getElementById("label-filter");
  const kept = select.value;
  const counts = new Map();
  for (const c of all) counts.set(c.label, (counts.get(c.label) ?? 0) + c.count);
  const draws = all.reduce((sum, c) => sum + c.count, 0);
  const options = [
    ["", `all (${draws})`],
    ...[...counts].sort().map(([name, count]) => [`=${name}`, `${plainText(name || "no answer")} (${count})`]),
  ];
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (options.some(([value]) => value === kept)) select.value = kept;
}

function noteTokens(has) {
  const note = document.getElementById("token-note");
  const told = [];
  if (!has.parts)
    told.push("The completions under this condition were left out of this file; scores.parquet has them.");
  else if (!has.tokens && meta.coloured.includes(state.condition))
    told.push(
      "Parts are coloured as a whole: the increases of single tokens under this condition were left out of this file.",
    );
  else if (!has.tokens) {
    told.push(
      "Parts are coloured as a whole: the increases of single tokens are not stored for this condition. To store them: ",
      make("code", {}, "completions-lp score DIR --tokens"),
      ", then ",
      make("code", {}, "completions-lp report DIR"),
      ".",
    );
    told.push(...offerColoured());
  }
  note.replaceChildren(...told);
}

/** Where tokens are coloured, if not here: a button for each such condition. */
function offerColoured() {
  const able = meta.coloured.filter((index) => hasBlock(`tokens:${index}`));
  if (able.length === 0 || able.length > 12) return [];
  const buttons = able.map((index) => {
    const { name, kind, layer, multiplier } = conditions[index];
    const button = make(
      "button",
      { type: "button", class: "small" },
      kind === "rival" ? plainText(name) : `${plainText(name)}, layer ${layer}, ${writeMultiplier(multiplier)}`,
    );
    button.addEventListener("click", () => change({ condition: index }));
    return button;
  });
  return [make("span", { class: "offer" }, "Tokens are coloured under ", ...buttons)];
}

function drawList() {
  const wanted = document.getElementById("text-filter").value.toLowerCase();
  const labelled = document.getElementById("label-filter").value;
  const [key, direction] = document.getElementById("sort").value.split("|");
  const value = SORTS[key][1];
  const sign = direction === "up" ? -1 : 1;
  const shown = shownCompletions
    .filter((c) => (!labelled || `=${c.label}` === labelled) && (!wanted || c.text.toLowerCase().includes(wanted)))
    .sort(
      (a, b) =>
        (Number.isNaN(value(a)) || Number.isNaN(value(b))
          ? compare(value(b), value(a))
          : sign * (value(b) - value(a))) || a.number - b.number,
    );
  const under = document.getElementById("under").checked;
  const list = document.getElementById("completions");
  list.replaceChildren(...shown.map((c, i) => drawCompletion(c, i === 0, under)));
  const draws = (cs) => cs.reduce((sum, c) => sum + c.count, 0);
  document.getElementById("completion-count").textContent =
    `${shown.length} of ${shownCompletions.length} distinct completions, ${draws(shown)} of ${draws(shownCompletions)} draws`;
}

function drawCompletion(c, first, under) {
  const number = (name, value, key, sign = true) =>
    make(
      "div",
      { "data-part": key },
      make("dt", {}, name),
      make("dd", {}, write(value, { sign, decimals: meta.decimals })),
    );
  const split = Number.isNaN(c.parts.before)
    ? []
    : [
        number("before", c.parts.before, "before"),
        number("answer", c.parts.at, "at"),
        number("after", c.parts.after, "after"),
      ];
  const head = make(
    "div",
    { class: "head" },
    make("span", { class: "count", title: "draws" }, `${c.count}×`),
    make("bdi", { class: `badge label${c.label ? "" : " none"}` }, ...showText(c.label || "no answer")),
    make(
      "dl",
      {},
      number("log prob", c.logprob, "logprob", false),
      number("to answer", c.parts.to_answer, "to_answer"),
      number("whole", c.parts.increase, "increase"),
      ...split,
    ),
    make(
      "button",
      {
        type: "button",
        class: "small open",
        tabindex: first ? "0" : "-1",
        "aria-expanded": "false",
        "aria-label": `Tokens of: ${plainText(c.text)}`,
      },
      "tokens",
    ),
  );
  const text = c.values
    ? drawTokens(c, c.values, scaleLimits.tokens, under)
    : drawParts(c, c.parts, scaleLimits.parts, under);
  const item = make("li", { "data-completion": c.number }, head, text);
  if (!c.ended) item.append(make("p", { class: "cut" }, "cut off at the longest length"));
  return item;
}

/** Open or close the table of a completion's tokens. */
function toggleTokens(item) {
  const open = item.querySelector(".token-table");
  item.querySelector(".open").setAttribute("aria-expanded", String(!open));
  if (open) open.closest(".scroller").remove();
  else {
    const c = shownCompletions.find((one) => one.number === Number(item.dataset.completion));
    item.append(drawTokenTable(c, c.values));
    watchScroll(item.querySelector(".scroll"));
  }
}

/** Up and down go from completion to completion, left and right from prompt to prompt. */
function moveInList(event) {
  const here = event.target.closest(".open");
  if (!here) return;
  const all = [...document.querySelectorAll("#completions .open")];
  const place = all.indexOf(here);
  const to = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: all.length - 1 }[event.key];
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") walk(event.key === "ArrowLeft" ? -1 : 1);
  else if (to === undefined) return;
  else if (all[to]) {
    here.tabIndex = -1;
    all[to].tabIndex = 0;
    all[to].focus();
  }
  event.preventDefault();
}

export function startCompletions() {
  const sort = document.getElementById("sort");
  for (const [key, [name]] of Object.entries(SORTS)) {
    sort.append(
      make("option", { value: `${key}|down` }, `${name}, high first`),
      make("option", { value: `${key}|up` }, `${name}, low first`),
    );
  }
  sort.value = "count|down";
  for (const [id, name] of [
    ["sort", "change"],
    ["label-filter", "change"],
    ["text-filter", "input"],
    ["under", "change"],
  ]) {
    document.getElementById(id).addEventListener(name, drawList);
  }
  const list = document.getElementById("completions");
  list.addEventListener("keydown", moveInList);
  list.addEventListener("click", (event) => {
    if (event.target.closest(".open")) toggleTokens(event.target.closest("li"));
  });
  onChange(async (changed) => {
    if (!changed.has("condition") && !changed.has("prompt")) return;
    const refocus = list.contains(document.activeElement) && changed.has("prompt");
    await drawExplorer();
    if (refocus) list.querySelector(".open")?.focus();
  });
}
