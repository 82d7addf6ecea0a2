// Elements, and how foreign text is made safe to look at.

/** Make an element: `make("p", { class: "note" }, "text", child)`. Text enters as text, never as HTML. */
export function make(tag, attributes = {}, ...children) {
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
export function showText(text, { breaks = true } = {}) {
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
export function plainText(text) {
  return showText(text)
    .map((node) => node.textContent ?? node)
    .join("");
}
