// The prompt picker and the numbers of one prompt.

const SHOWN_PROMPTS = 300; // options in the list at once; search finds the others
const NAMES = {
  n: "Draws",
  n_unique: "Distinct",
  n_A: "With the answer",
  share_A: "Share with the answer",
  mass: "Mass on both answers",
  p_A: "P(answer), unsteered",
};
let prompts = null; // words, sizes and unsteered numbers
let promptStarts = null; // first completion of every prompt
let promptTokens = null; // first token of every prompt
let perPrompt = {}; // numbers under the chosen condition
let listed = []; // prompts in the order shown

async function loadPrompts() {
  prompts = await readBlock("prompts");
  promptStarts = accumulate(prompts.size);
  promptTokens = accumulate(prompts.n_tokens);
  const order = document.getElementById("prompt-order");
  const columns = Object.keys(meta.per_prompt).map((name) => [`steered|${name}`, label(name)]);
  const fixed = Object.keys(meta.unsteered)
    .filter((name) => NAMES[name])
    .map((name) => [`unsteered|${name}`, NAMES[name]]);
  for (const [value, text] of [["file", "as asked"], ...columns, ...fixed])
    order.append(make("option", { value }, text));
}

function accumulate(sizes) {
  const starts = new Int32Array(sizes.length + 1);
  for (let i = 0; i < sizes.length; i++) starts[i + 1] = starts[i] + sizes[i];
  return starts;
}

/** A prompt's number under the chosen condition, or the unsteered one. */
function readPrompt(prompt, name) {
  if (name in meta.per_prompt)
    return perPrompt[name] ? unquantise(perPrompt[name][prompt], meta.per_prompt[name]) : NaN;
  return prompts[name] ? unquantise(prompts[name][prompt], meta.unsteered[name]) : NaN;
}

async function loadPerPrompt() {
  const name = `prompts:${state.condition}`;
  perPrompt = hasBlock(name) ? await readBlock(name) : {};
}

function drawPromptList() {
  const wanted = document.getElementById("prompt-search").value.trim().toLowerCase();
  const [kind, column] = document.getElementById("prompt-order").value.split("|");
  const { id, text } = prompts.words;
  listed = Array.from(id.keys()).filter(
    (i) => !wanted || id[i].toLowerCase().includes(wanted) || text[i].toLowerCase().includes(wanted),
  );
  if (kind !== "file") {
    const value = Float64Array.from(id, (_, i) => readPrompt(i, column));
    listed.sort((a, b) => compare(value[b], value[a]) || a - b);
  }
  const options = listed.slice(0, SHOWN_PROMPTS).map((i) => {
    const number =
      kind === "file"
        ? ""
        : write(readPrompt(i, column), { sign: !UNSIGNED.test(column), decimals: decimalsOf(column) });
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
function compare(a, b) {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) ? (Number.isNaN(b) ? 0 : -1) : 1;
  return a - b;
}

const decimalsOf = (name) => meta.per_prompt[name] ?? meta.unsteered[name] ?? 3;

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
function walk(steps) {
  const here = listed.indexOf(state.prompt);
  const to = listed[Math.max(0, Math.min(listed.length - 1, here < 0 ? 0 : here + steps))];
  if (to !== undefined) change({ prompt: to });
}

function drawPrompt() {
  const i = state.prompt;
  const place = listed.indexOf(i);
  document.getElementById("prompt-place").textContent =
    `${writeCount((place < 0 ? i : place) + 1)} of ${writeCount(listed.length || prompts.words.id.length)}`;
  document.getElementById("prompt-id").replaceChildren(...showText(prompts.words.id[i]));
  document.getElementById("prompt-body").replaceChildren(...showText(prompts.words.text[i], { breaks: false }));
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
  const text = (name) => write(readPrompt(i, name), { decimals: decimalsOf(name), sign: !UNSIGNED.test(name) });
  const addNumber = (name, words, note) => {
    const bounded = Number.isFinite(readPrompt(i, `${name}_low`));
    const bounds = bounded ? `[${text(`${name}_low`)}, ${text(`${name}_high`)}]` : "";
    add(
      words,
      name,
      note,
      text(name),
      bounded ? make("span", { class: "bounds", title: "proven bounds" }, bounds) : null,
    );
  };
  const { matching } = prompts.words;
  if (matching[i]) add("Matching answer", "matching", "", make("bdi", {}, ...showText(matching[i])));
  for (const name of Object.keys(NAMES)) if (name in meta.unsteered) addNumber(name, NAMES[name], "without steering");
  const trust = meta.trust[perPrompt.trust?.[i]];
  const note = "How far the steered probability can be trusted";
  if (trust) add("Trust", "trust", note, make("span", { class: `badge ${trust}` }, trust));
  for (const name of Object.keys(meta.per_prompt)) {
    if (!/_(low|high)$/.test(name)) addNumber(name, label(name), meaning(name));
  }
  return facts;
}

function startPrompts() {
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
