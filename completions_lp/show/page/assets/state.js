// What is chosen, and the summary from which everything above the explorer is read.

const conditions = meta.conditions.map(([vector, kind, layer, multiplier, positions], index) => ({
  vector,
  kind,
  layer,
  multiplier,
  positions,
  index,
  name: positions === meta.conditions[0][4] ? vector : `${vector} (${positions})`,
}));
const vectors = [...new Set(conditions.map((c) => c.name))];
const state = { condition: 0, quantity: "delta_p_A|macro", prompt: 0, exact: false, inference: false };
const listeners = [];
let summary = null; // columns, and `row`: the place of a number by condition, quantity and weighting

const onChange = (listener) => listeners.push(listener);

/** Change what is chosen, and let every part of the page that depends on it follow. */
function change(changes) {
  const changed = new Set(Object.keys(changes).filter((key) => state[key] !== changes[key]));
  if (changed.size === 0) return;
  Object.assign(state, changes);
  rememberState();
  for (const listener of listeners) listener(changed);
}

const chosen = () => conditions[state.condition];
const unique = (values) => [...new Set(values)];
const layersOf = (name) => unique(conditions.filter((c) => c.name === name).map((c) => c.layer)).sort((a, b) => a - b);
const multipliersOf = (name, layer) =>
  unique(
    conditions.filter((c) => c.name === name && (layer === undefined || c.layer === layer)).map((c) => c.multiplier),
  ).sort((a, b) => a - b);
const findCondition = (name, layer, multiplier) =>
  conditions.find((c) => c.name === name && c.layer === layer && c.multiplier === multiplier);
const nearest = (values, wanted) => values.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a));

/** Choose a condition by what is wanted of it; what the run does not have gives way to what is nearest. */
function choose({ name = chosen().name, layer = chosen().layer, multiplier = chosen().multiplier }) {
  const at = nearest(layersOf(name), layer);
  const found = findCondition(name, at, nearest(multipliersOf(name, at), multiplier));
  change({ condition: found.index });
}

async function loadSummary() {
  const columns = await readBlock("summary");
  const word = (name, i) => (columns[name] ? columns.words[name][columns[name][i]] : "");
  const row = new Map();
  const other = new Map(); // rows of a held-out half, by the same key
  for (let i = 0; i < columns.condition.length; i++) {
    const key = `${columns.condition[i]}|${word("quantity", i)}|${word("weighting", i)}`;
    (word("split", i) === "report" ? other : row).set(key, i);
  }
  summary = { columns, word, row, other };
}

/** The place of a number in the summary, or undefined. */
const findRow = (condition, quantityKey) => summary.row.get(`${condition}|${quantityKey}`);
const readNumber = (row, column = "value") => (row === undefined ? NaN : (summary.columns[column]?.[row] ?? NaN));
const unitOf = (quantityKey) => {
  const row = conditions.map((c) => findRow(c.index, quantityKey)).find((r) => r !== undefined);
  return row === undefined ? "" : summary.word("unit", row);
};

/** Quantities that steered conditions (or the unsteered model) have, as "quantity|weighting", by group. */
function listQuantities(unsteered = false) {
  const keys = unique(
    [...summary.row.keys()]
      .filter((key) => key.startsWith("-1|") === unsteered)
      .map((key) => key.slice(key.indexOf("|") + 1)),
  );
  return keys.sort((a, b) => orderOf(a) - orderOf(b));
}
const KNOWN = Object.keys(QUANTITIES);
function orderOf(key) {
  const [quantity, weighting] = key.split("|");
  const place = KNOWN.indexOf(quantity);
  return groupOf(quantity) * 1e6 + (place < 0 ? 9e5 : place * 10) + Object.keys(WEIGHTINGS).indexOf(weighting);
}
const nameQuantity = (key) => {
  const [quantity, weighting] = key.split("|");
  return label(quantity) + (weighting === "macro" ? "" : ` (${weighting})`);
};

/** The condition that the headline is about: chosen on a held-out half, or else the target vector's largest. */
function findBest() {
  const primary = "delta_p_A|macro";
  const held = [...summary.other].filter(([key]) => key.endsWith(`|${primary}`) && !key.startsWith("-1|"));
  if (held.length > 0) return Number(held[0][0].split("|")[0]);
  const key = unitOf(primary) ? primary : "increase_to_answer_A|macro";
  let best = conditions.find((c) => c.kind === "target" && c.multiplier !== 0) ?? conditions[0];
  for (const c of conditions) {
    const value = readNumber(findRow(c.index, key));
    const leader = readNumber(findRow(best.index, key));
    if (c.kind === "target" && c.multiplier !== 0 && (value > leader || Number.isNaN(leader))) best = c;
  }
  return best.index;
}

/** Keep what is chosen in the page's address, once it has been chosen for a moment. */
function rememberState() {
  clearTimeout(remembering);
  remembering = setTimeout(writeAddress, 150);
}
let remembering = 0;

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

function recallState() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const wanted = findCondition(parts.get("vector"), Number(parts.get("layer")), Number(parts.get("multiplier")));
  state.condition = wanted?.index ?? findBest();
  if (listQuantities().includes(parts.get("quantity"))) state.quantity = parts.get("quantity");
  else if (!listQuantities().includes(state.quantity)) {
    const [first] = listQuantities();
    state.quantity = unitOf("increase_to_answer_A|macro") ? "increase_to_answer_A|macro" : (first ?? state.quantity);
  }
  const prompt = Number(parts.get("prompt") ?? 0);
  state.prompt = Number.isInteger(prompt) && prompt >= 0 && prompt < meta.n_prompts ? prompt : 0;
}
