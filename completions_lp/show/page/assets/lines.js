// The chosen quantity over layers, at the chosen multiplier, under the heat map and in step with its columns.

import { describeNumber, findEdge, isRed } from "./heatmap.js";
import { make } from "./nodes.js";
import { findTicks } from "./scales.js";
import {
  DOSE,
  change,
  chosen,
  findCondition,
  findRow,
  layersOf,
  multipliersOf,
  onChange,
  readNumber,
  state,
  summary,
  unitOf,
} from "./state.js";
import { minus, nameQuantity, writeMultiplier } from "./words.js";

const TALL = 220;
const LINE = 13; // from one name to the next
const NAME = 44; // room for one
let nameAgain = () => {}; // what is in sight has changed

function drawLines() {
  const place = document.getElementById("lines");
  const wide = document.getElementById("heat").clientWidth;
  if (!wide) return;
  const { name, multiplier } = chosen();
  const layers = layersOf(name);
  const edge = findEdge();
  const column = (wide - edge) / layers.length;
  const x = (layer) => edge + (layers.indexOf(layer) + 0.5) * column;
  const main = collectLine(name, multiplier);
  const others = document.getElementById("all-lines").checked
    ? multipliersOf(name)
        .filter((m) => m !== multiplier)
        .map((m) => collectLine(name, m))
    : [];
  const scale = scaleHeights([main, ...others]);
  const svg = makeDrawing(edge, wide - edge, { role: "img", "aria-label": describeLine(main) });
  const axis = makeDrawing(0, edge, { class: "axis", "aria-hidden": "true" });
  axis.append(...drawTicks(scale, edge));
  const unit = unitOf(state.quantity);
  document.getElementById("lines-name").textContent = `${nameQuantity(state.quantity)}${unit ? `, ${unit}` : ""}`;
  svg.append(...drawGrid(scale, edge, wide), ...drawControls(main, x, scale.y, column));
  for (const line of others) svg.append(...drawOther(line, x, scale.y));
  svg.append(...drawBand(main, x, scale.y), ...drawMain(main, x, scale.y));
  const names = make("g");
  nameAgain = () => names.replaceChildren(...nameOthers(others, x, scale.y));
  nameAgain();
  svg.append(names);
  place.replaceChildren(axis, svg);
  noteLines(main, others);
}

/** A part of the drawing, `width` wide from `x`: the axis stays where it is while the rest scrolls with the columns. */
const makeDrawing = (x, width, attributes) =>
  make("svg", { width, height: TALL, viewBox: `${x} 0 ${width} ${TALL}`, ...attributes });

/** The points of one line, with whatever intervals there are. */
function collectLine(name, multiplier) {
  const points = [];
  for (const layer of layersOf(name)) {
    const condition = findCondition(name, layer, multiplier);
    const row = condition && findRow(condition.index, state.quantity);
    const point = { layer, condition, row, value: readNumber(row) };
    for (const end of ["low", "high", "band_low", "band_high", "random_low", "random_high"])
      point[end] = readNumber(row, end);
    if (condition && Number.isFinite(point.value)) points.push(point);
  }
  return { multiplier, points };
}

function scaleHeights(lines) {
  const ends = lines.flatMap((line, i) =>
    line.points.flatMap((p) => [
      p.value,
      ...(i ? [] : [p.low, p.high, p.band_low, p.band_high, p.random_low, p.random_high]),
    ]),
  );
  const finite = [0, ...ends.filter(Number.isFinite)];
  let [low, high] = [Math.min(...finite), Math.max(...finite)];
  const room = (high - low || 1) * 0.08;
  [low, high] = [low - room, high + room];
  return { low, high, y: (value) => 8 + ((high - value) / (high - low)) * (TALL - 16) };
}

const drawGrid = ({ low, high, y }, edge, wide) =>
  findTicks(low, high).map((tick) =>
    make("line", { x1: edge, x2: wide, y1: y(tick), y2: y(tick), class: tick === 0 ? "zero" : "grid" }),
  );

function drawTicks({ low, high, y }, edge) {
  const ticks = findTicks(low, high);
  const digits = Math.max(0, ...ticks.map((t) => (String(t).split(".")[1] ?? "").length));
  return ticks.map((tick) =>
    make(
      "text",
      { x: edge - 10, y: y(tick), class: "tick", "text-anchor": "end", "dominant-baseline": "central" },
      minus(tick.toFixed(digits)),
    ),
  );
}

/** Where 95 % of the random directions lie: a grey block per layer. */
function drawControls({ points }, x, y, column) {
  return points
    .filter((p) => Number.isFinite(p.random_low) && Number.isFinite(p.random_high))
    .map((p) => {
      const width = Math.min(column * 0.7, 46);
      return make("rect", {
        class: "random",
        x: x(p.layer) - width / 2,
        width,
        y: y(p.random_high),
        height: Math.max(1, y(p.random_low) - y(p.random_high)),
      });
    });
}

function drawBand({ points }, x, y) {
  const inside = points.filter((p) => Number.isFinite(p.band_low) && Number.isFinite(p.band_high));
  return inside.map((p) =>
    make("line", { class: "band", x1: x(p.layer), x2: x(p.layer), y1: y(p.band_low), y2: y(p.band_high) }),
  );
}

function drawOther({ points }, x, y) {
  return [
    make("polyline", { class: "other", points: points.map((p) => `${x(p.layer)},${y(p.value)}`).join(" ") }),
    ...points.map((p) => make("circle", { class: "other", cx: x(p.layer), cy: y(p.value), r: 1.8 })),
  ];
}

/** The multiplier of each thin line, at its end or where it leaves what is in sight; none lies on another. */
function nameOthers(lines, x, y) {
  const box = document.getElementById("heat-scroll");
  const right = box.scrollLeft + box.clientWidth;
  const names = lines
    .map(({ multiplier, points }) => ({ multiplier, ...points.filter((p) => x(p.layer) < right - NAME).at(-1) }))
    .filter(({ layer }) => layer !== undefined)
    .sort((a, b) => b.value - a.value);
  let least = -Infinity;
  const heights = names.map(({ value }) => (least = Math.max(y(value), least + LINE)));
  let most = TALL - LINE / 2;
  for (let i = heights.length - 1; i >= 0; i--) {
    heights[i] = Math.min(heights[i], most);
    most = heights[i] - LINE;
  }
  return names.map(({ multiplier, layer }, i) =>
    make(
      "text",
      { class: "tick name", x: x(layer) + 10, y: heights[i], "dominant-baseline": "central" },
      writeMultiplier(multiplier),
    ),
  );
}

function drawMain({ points }, x, y) {
  const drawn = [
    make("polyline", { class: "main", points: points.map((p) => `${x(p.layer)},${y(p.value)}`).join(" ") }),
  ];
  for (const p of points) {
    if (Number.isFinite(p.low) && Number.isFinite(p.high)) {
      drawn.push(
        make("line", {
          class: "interval",
          "data-layer": p.layer,
          x1: x(p.layer),
          x2: x(p.layer),
          y1: y(p.low),
          y2: y(p.high),
        }),
      );
    }
    const here = p.condition.index === state.condition;
    const kind = `point${here ? " here" : ""}${isRed(p.condition.index) ? " open" : ""}`;
    const point = make("circle", {
      class: kind,
      "data-layer": p.layer,
      cx: x(p.layer),
      cy: y(p.value),
      r: here ? 6 : 4,
    });
    point.append(titleOf(`layer ${p.layer}: ${describeNumber(p.row, state.quantity.split("|")[0])}`));
    point.addEventListener("click", () => change({ condition: p.condition.index }));
    drawn.push(point);
  }
  return drawn;
}

function titleOf(text) {
  const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
  title.textContent = text;
  return title;
}

function describeLine({ multiplier, points }) {
  const [quantity] = state.quantity.split("|");
  const told = points.map((p) => `layer ${p.layer} ${describeNumber(p.row, quantity)}`);
  return `${nameQuantity(state.quantity)} over layers at ${DOSE} ${writeMultiplier(multiplier)}: ${told.join("; ") || "nothing to show"}`;
}

/** What is drawn, in words; what does not exist is not drawn, and that is said. */
function noteLines({ multiplier, points }, others) {
  const has = (end) => points.some((p) => Number.isFinite(p[end]));
  const row = points.find((p) => Number.isFinite(p.low))?.row;
  const level =
    row === undefined ? "" : `${Math.round(100 * readNumber(row, "level"))} % ${summary.columns.method[row]} interval`;
  const told = [
    points.length === 0
      ? "Nothing to draw: this quantity is undefined here."
      : `${DOSE[0].toUpperCase()}${DOSE.slice(1)} ${writeMultiplier(multiplier)}${row === undefined ? "; no interval exists" : `; bars: ${level}`}`,
    has("band_low") ? "pale bars: simultaneous band over the sweep (max-T)" : "",
    has("random_low") ? "grey: 95 % of the random directions" : "",
    points.some((p) => isRed(p.condition.index)) ? "open circles: more than 10 % of the prompts untrusted" : "",
    others.length ? `thin lines: the other ${DOSE === "multiplier" ? "multipliers" : "doses"}` : "",
  ];
  document.getElementById("lines-note").textContent = `${told.filter(Boolean).join("; ")}.`.replace("..", ".");
}

export function startLines() {
  document.getElementById("all-lines").addEventListener("change", drawLines);
  drawLines();
  document.getElementById("heat-scroll").addEventListener("scroll", () => nameAgain(), { passive: true });
  new ResizeObserver(drawLines).observe(document.getElementById("heat"));
  onChange((changed) => {
    if (changed.has("quantity") || changed.has("condition")) drawLines();
  });
}
