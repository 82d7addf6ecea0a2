// A completion's text in pieces: each token coloured by its log-prob increase, the answer's outlined.

import { make, showText } from "./nodes.js";
import { paint } from "./scales.js";
import { write } from "./words.js";

const segmenter = Intl.Segmenter ? new Intl.Segmenter(undefined, { granularity: "grapheme" }) : null;

/**
 * The pieces of a text: tokens that share a character (the bytes of an emoji) share a piece.
 * Returns [{start, end, first, last}], tokens first..last; a token without text after the end stands alone.
 */
function cutPieces(text, ends) {
  const whole =
    segmenter && /[^\u0000-\u02ff]/.test(text)
      ? new Set(Array.from(segmenter.segment(text), (s) => s.index).concat(text.length))
      : null;
  const pieces = [];
  let start = 0;
  let first = 0;
  for (let i = 0; i < ends.length; i++) {
    const end = ends[i];
    const more = i + 1 < ends.length && ends[ends.length - 1] > end;
    if (end === start && !more) {
      // nothing is left for it: an end of sequence
      pieces.push({ start, end, first: i, last: i });
      first = i + 1;
    } else if (end > start && !(more && whole && !whole.has(end))) {
      pieces.push({ start, end, first, last: i });
      [start, first] = [end, i + 1];
    }
  }
  return pieces;
}

/** Where a token lies: before, at or after the answer's; "" without an answer. */
const partOf = (token, answer) => (answer < 0 ? "" : token < answer ? "before" : token === answer ? "at" : "after");

/** Stands where the reasoning ends. */
const makeBar = () => make("span", { class: "turn", role: "img", "aria-label": "end of the reasoning", title: "the reasoning ends here" });

/** The text of a completion with its tokens coloured. `values` holds one increase per token. */
export function drawTokens(completion, values, limit, under) {
  const { text, ends, answer, reasoning, ids, logprobs } = completion;
  const line = make("p", { class: `text tokens${under ? " under" : ""}`, dir: "auto" });
  for (const { start, end, first, last } of cutPieces(text, ends)) {
    const part = answer >= first && answer <= last ? "at" : partOf(last, answer);
    const thought = last < reasoning ? " thought" : "";
    let sum = 0;
    let told = "";
    for (let i = first; i <= last; i++) {
      sum += values[i];
      told += `${told ? "\n" : ""}token ${i}, id ${ids[i]}: ${write(values[i], { sign: true })} nats; unsteered log prob ${write(logprobs[i])}${i === answer ? "; the answer" : ""}`;
    }
    const shown = end > start ? showText(text.slice(start, end)) : [make("span", { class: "sign" }, "end")];
    const piece = make("span", {
      class: `piece ${part}${thought}`,
      title: `${told}${thought && "\nreasoning"}${part && part !== "at" ? `\n${part} the answer` : ""}`,
    });
    piece.append(
      ...(under
        ? [make("span", { class: "said" }, ...shown), make("span", { class: "figure" }, writeBelow(sum))]
        : shown),
    );
    paint(piece, sum, limit);
    line.append(piece);
    if (thought && last + 1 === reasoning && reasoning < ends.length) line.append(makeBar());
  }
  return line;
}

/** A number that stands below text: short, but not so short that it reads as zero. */
const writeBelow = (value) => write(value, { decimals: Math.abs(value) < 0.0095 && value !== 0 ? 3 : 2, sign: true });

/** The text in up to three parts, each coloured as a whole: where the increases of single tokens are not stored. */
export function drawParts(completion, parts, limit, under) {
  const { text, ends, answer, reasoning } = completion;
  const line = make("p", { class: `text parts${under ? " under" : ""}`, dir: "auto" });
  const at = answer < 0 ? null : cutPieces(text, ends).find((piece) => answer >= piece.first && answer <= piece.last);
  const turn = at && reasoning > 0 && !Number.isNaN(parts.reasoning) ? Math.min(ends[reasoning - 1], at.start) : 0;
  const spent = turn ? parts.reasoning : 0;
  const cuts = at
    ? [
        ["before thought", 0, turn, spent],
        ["before", turn, at.start, parts.before - spent],
        ["at", at.start, at.end, parts.at],
        ["after", at.end, text.length, parts.after],
      ]
    : [["", 0, text.length, parts.increase]];
  for (const [part, start, end, value] of cuts) {
    if (end <= start && !(part === "" && text === "")) continue;
    const shown = showText(text.slice(start, end));
    const piece = make("span", {
      class: `piece ${part}`,
      title: `${{ "before thought": "reasoning", "": "whole" }[part] ?? part}: ${write(value, { sign: true })} nats`,
    });
    piece.append(
      ...(under
        ? [make("span", { class: "said" }, ...shown), make("span", { class: "figure" }, writeBelow(value))]
        : shown),
    );
    paint(piece, value, limit);
    line.append(piece);
    if (part === "before thought") line.append(makeBar());
  }
  return line;
}

/** The tokens as a table: everything that colour and tooltip say, in words and numbers. */
export function drawTokenTable(completion, values) {
  const { text, ends, answer, reasoning, ids, logprobs } = completion;
  const heads = ["Token", "Text", "Id", "Log prob", ...(values ? ["Increase"] : []), "Part"];
  const table = make(
    "table",
    { class: "plain token-table" },
    make("thead", {}, make("tr", {}, ...heads.map((h) => make("th", { scope: "col" }, h)))),
  );
  const body = make("tbody");
  for (const { start, end, first, last } of cutPieces(text, ends)) {
    for (let i = first; i <= last; i++) {
      const said = i > first ? ["″"] : end > start ? showText(text.slice(start, end)) : ["(end)"];
      body.append(
        make(
          "tr",
          {},
          make("td", { class: "number" }, String(i)),
          make("td", {}, make("bdi", { class: "said" }, ...said)),
          make("td", { class: "number" }, String(ids[i])),
          make("td", { class: "number" }, write(logprobs[i])),
          values ? make("td", { class: "number" }, write(values[i], { sign: true })) : null,
          make("td", {}, i < reasoning ? "reasoning" : ({ at: "the answer" }[partOf(i, answer)] ?? partOf(i, answer))),
        ),
      );
    }
  }
  table.append(body);
  const box = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Tokens" }, table);
  return make("div", { class: "scroller" }, make("p", { class: "cue", hidden: true }, "Scroll sideways for more of the columns"), box);
}
