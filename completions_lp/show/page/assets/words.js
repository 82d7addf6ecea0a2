// What quantities are called, how numbers are written, and how foreign text is made safe to look at.

const GROUPS = [
  "The effect",
  "Probability of the answer",
  "Parts of the increase",
  "Other completions",
  "Damage",
  "Two-choice read-out",
  "How far to trust it",
  "Both signs together",
  "Other",
];

// Label, group, meaning. A stands for the target answer.
const QUANTITIES = {
  delta_p_A: [
    "Change of P(answer)",
    0,
    "Steered minus unsteered probability of the target answer, in percentage points.",
  ],
  log_ratio_A: ["Log ratio of P(answer)", 0, "Log of steered over unsteered probability of the target answer."],
  increase_to_answer_A: [
    "Increase to the answer",
    0,
    "Log-prob increase of the completions that gave the target answer, up to and including the answer's token. A lower bound on the log ratio of the answer's probability.",
  ],
  increase_A: [
    "Increase, whole completion",
    0,
    "Log-prob increase of the completions that gave the target answer, over all their tokens. What comes after the answer can only lower it.",
  ],
  increase_to_answer_A_rb: [
    "Increase to the answer, next token averaged out",
    0,
    "The same as the increase to the answer with less sampling noise: the next token is averaged out at every step.",
  ],
  p_A: ["P(answer), unsteered", 1, "Probability that the unsteered model gives the target answer."],
  share_A: ["Share of draws with the answer", 1, "Share of the unsteered draws that gave the target answer."],
  p_A_steered: [
    "P(answer), steered",
    1,
    "Probability that the steered model gives the target answer, estimated from the unsteered draws.",
  ],
  delta_logit_A: ["Change of the answer's logit", 1, "Change of the log odds of the target answer."],
  bound_gap: ["Gap of the bound", 1, "Log ratio minus increase to the answer: how loose the bound is."],
  answered: ["P(either answer), unsteered", 1, "Probability of either answer within the window, unsteered."],
  answered_steered: ["P(either answer), steered", 1, "Probability of either answer within the window, steered."],
  first_A: ["P(target first), unsteered", 1, "Probability that the target answer comes before the other, unsteered."],
  first_B: ["P(other first), unsteered", 1, "Probability that the other answer comes first, unsteered."],
  first_A_steered: [
    "P(target first), steered",
    1,
    "Probability that the target answer comes before the other, steered.",
  ],
  first_B_steered: ["P(other first), steered", 1, "Probability that the other answer comes first, steered."],
  log_odds_change_A_B: [
    "Change of log odds, target : other",
    1,
    "Change of the log odds of the target answer against the other, over completions.",
  ],
  before_answer_A: [
    "Before the answer",
    2,
    "Log-prob increase of the tokens before the answer's, in completions with the target answer.",
  ],
  at_answer_A: ["At the answer", 2, "Log-prob increase of the answer's token."],
  after_answer_A: ["After the answer", 2, "Log-prob increase of the tokens after the answer's."],
  answer_share: [
    "Share of the answer's token",
    2,
    "What of the change of the answer's logit is due to the answer's token (Shapley).",
  ],
  reasoning_share: [
    "Share of the text before it",
    2,
    "What of the change of the answer's logit is due to the text before the answer (Shapley).",
  ],
  increase_to_answer_not_A: [
    "Others, to their answer",
    3,
    "Log-prob increase of the other completions, up to their answer or the end of the window.",
  ],
  increase_not_A: ["Others, whole", 3, "Log-prob increase of the other completions, over all their tokens."],
  increase_all: [
    "All completions, whole",
    3,
    "Log-prob increase of all completions: an estimate of −KL, at most 0 up to noise.",
  ],
  difference_A_not_A: ["Target minus others", 3, "Increase to the answer minus that of the other completions."],
  kl: ["KL per completion", 4, "KL divergence of the steered from the unsteered model, per completion."],
  kl_per_token: ["KL per token", 4, "KL divergence of the steered from the unsteered model, per token."],
  kl_reverse: ["Reverse KL", 4, "KL divergence of the unsteered from the steered model, per completion."],
  logit_diff: [
    "Logit diff, unsteered",
    5,
    "Two-choice read-out: log prob of the target answer minus the other's, unsteered.",
  ],
  logit_diff_steered: [
    "Logit diff, steered",
    5,
    "Two-choice read-out: log prob of the target answer minus the other's, steered.",
  ],
  logit_diff_change: ["Change of the logit diff", 5, "Two-choice read-out: steered minus unsteered logit diff."],
  mass: [
    "Mass on both answers, unsteered",
    5,
    "Probability of the two answers at the first answer position, unsteered.",
  ],
  mass_steered: [
    "Mass on both answers, steered",
    5,
    "Probability of the two answers at the first answer position, steered.",
  ],
  p_A_low: [
    "P(answer), unsteered, lower bound",
    1,
    "What the visited texts prove of the unsteered probability of the target answer.",
  ],
  p_A_high: [
    "P(answer), unsteered, upper bound",
    1,
    "What the visited texts prove of the unsteered probability of the target answer.",
  ],
  p_A_steered_low: [
    "P(answer), steered, lower bound",
    1,
    "What the visited texts prove of the steered probability of the target answer.",
  ],
  p_A_steered_high: [
    "P(answer), steered, upper bound",
    1,
    "What the visited texts prove of the steered probability of the target answer.",
  ],
  share_certified: [
    "Prompts certified",
    6,
    "Share of the prompts whose steered probability lies within narrow proven bounds.",
  ],
  share_green: ["Prompts green", 6, "Share of the prompts whose steered probability has enough effective draws."],
  share_red: ["Prompts red", 6, "Share of the prompts whose steered probability is not to be trusted."],
  ess: ["Effective draws", 6, "Smallest effective number of draws over steps."],
  mean_weight_low: ["Smallest mean weight", 6, "Smallest mean weight over steps; it should be near 1."],
  mean_weight_high: ["Largest mean weight", 6, "Largest mean weight over steps; it should be near 1."],
  n_steered: ["Draws from the steered model", 6, "Draws from the steered model that joined the estimate."],
  below_zero_delta_p_A: [
    "Prompts steered the wrong way",
    6,
    "Share of the prompts whose probability of the answer truly falls, sampling noise shrunken away.",
  ],
  increase_to_answer_A_odd: [
    "Increase to the answer, odd part",
    7,
    "Half the difference between multiplier and minus multiplier: even damage cancels.",
  ],
  log_ratio_A_odd: [
    "Log ratio, odd part",
    7,
    "Half the difference between multiplier and minus multiplier: even damage cancels.",
  ],
  delta_p_A_odd: [
    "Change of P(answer), odd part",
    7,
    "Half the difference between multiplier and minus multiplier: even damage cancels.",
  ],
};
const UNSIGNED = /^(p_A|share_|first_|answered|mass|kl|ess|mean_weight|n$|n_|below_zero)/;
const WEIGHTINGS = {
  macro: "mean over prompts",
  micro: "pooled over completions",
  marginal: "change of the mean over prompts",
};

const label = (quantity) => QUANTITIES[quantity]?.[0] ?? quantity.replaceAll("_", " ");
const groupOf = (quantity) => QUANTITIES[quantity]?.[1] ?? GROUPS.length - 1;
const meaning = (quantity) => QUANTITIES[quantity]?.[2] ?? "";
const minus = (text) => text.replaceAll("-", "−");

const ROUNDING = 1e-12; // what computers leave of a zero; full precision shows it

/** A number for people: real minus signs, a sign where direction matters, and never a zero for what is not zero. */
function write(value, { decimals = 3, sign = false, exact = false, zero = ROUNDING } = {}) {
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

function writeQuantity(value, quantity, unit, exact = false) {
  const decimals = { pp: 2 }[unit] ?? 3;
  return write(value, { decimals, exact, sign: !UNSIGNED.test(quantity) });
}

const writeMultiplier = (value) => minus((value > 0 ? "+" : "") + String(value));
const writeCount = (value) => value.toLocaleString("en");

/** Make an element: `make("p", { class: "note" }, "text", child)`. Text enters as text, never as HTML. */
function make(tag, attributes = {}, ...children) {
  const node = SVG_TAGS.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
const SVG_TAGS = new Set(["svg", "g", "path", "line", "circle", "rect", "text", "polyline"]);

// Controls, bidi and other format characters, lone surrogates, line and paragraph separators; but the joiners of
// emoji and of Indic and Persian words stay what they are.
const HIDDEN_SIGNS = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const JOINERS = "\u200c\u200d";
const PICTURES = { "\n": "↵", "\t": "⇥", "\r": "␍" };

/** Foreign text as nodes: what would not be seen, or would rearrange what is seen, becomes a visible sign. */
function showText(text, { breaks = true } = {}) {
  const nodes = [];
  let place = 0;
  for (const match of text.matchAll(HIDDEN_SIGNS)) {
    const sign = match[0];
    if (JOINERS.includes(sign)) continue;
    if (match.index > place) nodes.push(text.slice(place, match.index));
    place = match.index + sign.length;
    if (sign === "\n" && !breaks) {
      nodes.push(sign); // a line break is seen as one
      continue;
    }
    const code = `U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
    nodes.push(make("span", { class: "sign", title: code }, PICTURES[sign] ?? code));
    if (sign === "\n") nodes.push("\n");
  }
  nodes.push(text.slice(place));
  return nodes;
}

/** The same where only a string can stand, as in a tooltip. */
function plainText(text) {
  return showText(text)
    .map((node) => node.textContent ?? node)
    .join("");
}
