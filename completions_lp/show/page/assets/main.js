// Start: read the summary, wire the controls, draw; then the explorer.

import { meta } from "./blocks.js";
import { drawExplorer, startCompletions } from "./completions.js";
import { startContents } from "./contents.js";
import { drawHeat, startHeat } from "./heatmap.js";
import { startLines } from "./lines.js";
import { make, plainText } from "./nodes.js";
import { drawNumbers, startNumbers } from "./numbers.js";
import { loadPrompts, startPrompts } from "./prompts.js";
import { startScrolling } from "./scrolling.js";
import {
  DOSE,
  change,
  choose,
  chosen,
  conditions,
  countPrompts,
  findRow,
  layersOf,
  listQuantities,
  loadSummary,
  multipliersOf,
  onChange,
  recallState,
  state,
  vectors,
  watchAddress,
  writeLayer,
} from "./state.js";
import { WEIGHTINGS, groupOf, meaning, nameQuantity, writeMultiplier } from "./words.js";

function fillSelect(select, options) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
}

/** The form shows what is chosen, whoever chose it. */
function showCondition() {
  const { name, kind, layer, multiplier } = chosen();
  document.getElementById("vector").value = name;
  showSlider("layer", layersOf(name), layer, writeLayer);
  showSlider("multiplier", multipliersOf(name, layer), multiplier, kind === "rival" ? () => "–" : writeMultiplier);
  document.getElementById("quantity").value = state.quantity;
  const [quantity, weighting] = state.quantity.split("|");
  const row = findRow(state.condition, state.quantity);
  const behind = row === undefined ? "" : ` (${countPrompts(row)} in the chosen cell)`;
  document.getElementById("quantity-meaning").textContent = quantity
    ? `${meaning(quantity)} Shown: ${WEIGHTINGS[weighting]}${behind}.`
    : "";
}

function showSlider(id, values, value, text) {
  const slider = document.getElementById(id);
  slider.max = values.length - 1;
  slider.value = values.indexOf(value);
  slider.disabled = values.length < 2;
  slider.setAttribute("aria-valuetext", text(value));
  document.getElementById(`${id}-shown`).textContent = text(value);
}

function startForm() {
  document.querySelector("label[for=multiplier] span").firstChild.data = `${DOSE[0].toUpperCase()}${DOSE.slice(1)} `;
  fillSelect(
    document.getElementById("vector"),
    vectors.map((name) => [name, plainText(name)]),
  );
  const quantity = document.getElementById("quantity");
  const groups = new Map();
  for (const key of listQuantities()) {
    const group = groupOf(key.split("|")[0]);
    if (!groups.has(group)) groups.set(group, make("optgroup", { label: group }));
    groups.get(group).append(make("option", { value: key }, nameQuantity(key)));
  }
  quantity.replaceChildren(...groups.values());
  document.getElementById("vector").addEventListener("change", (event) => choose({ name: event.target.value }));
  quantity.addEventListener("change", (event) => change({ quantity: event.target.value }));
  document
    .getElementById("layer")
    .addEventListener("input", (event) => choose({ layer: layersOf(chosen().name)[event.target.value] }));
  document
    .getElementById("multiplier")
    .addEventListener("input", (event) =>
      choose({ multiplier: multipliersOf(chosen().name, chosen().layer)[event.target.value] }),
    );
  document.getElementById("condition").addEventListener("submit", (event) => event.preventDefault());
  onChange(showCondition);
}

function startTheme() {
  const button = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  const show = (theme) => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    button.dataset.theme = theme;
  };
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(button.dataset.theme ?? "system") + 1) % themes.length];
    show(next);
    try {
      localStorage.setItem("completions-lp-theme", next);
    } catch {
      /* a file may not store anything: not kept */
    }
  });
  let kept = null;
  try {
    kept = localStorage.getItem("completions-lp-theme");
  } catch {
    /* as above */
  }
  show(themes.includes(kept) ? kept : "system");
}

async function start() {
  startTheme();
  startContents();
  if (!globalThis.DecompressionStream)
    throw new Error("this browser cannot inflate the data of this page; a newer one can");
  await loadSummary();
  if (conditions.length === 0) throw new Error("this run has no steered condition");
  recallState();
  watchAddress();
  const step = 10 ** -meta.decimals;
  document.getElementById("rounding").textContent =
    `In the explorer log probs and increases are rounded to ${step} nats. The table of numbers is exact.`;
  startForm();
  startHeat();
  startNumbers();
  showCondition();
  drawHeat();
  startLines();
  drawNumbers();
  startScrolling();
  if (meta.n_prompts > 0) {
    await loadPrompts();
    startPrompts();
    startCompletions();
    await drawExplorer();
  } else document.querySelector("#explorer .split").hidden = true;
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}

start().catch((error) => {
  const place = document.getElementById("sweep");
  place.prepend(
    make(
      "p",
      { class: "notice error", role: "alert" },
      `The interactive part of this page did not start: ${error.message}.`,
    ),
  );
  throw error;
});
