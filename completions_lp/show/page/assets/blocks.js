// The blocks that the page carries: base64 of deflated JSON, a column by each name; inflated when first asked for.

export const meta = JSON.parse(document.getElementById("meta").textContent);
const KEPT_BLOCKS = 48;
const inflated = new Map(); // the most recently used last

const findBlock = (name) => document.getElementById(`block-${name}`);
export const hasBlock = (name) => findBlock(name) !== null;

/** The columns of a block, as a promise; the block stays inflated until others have pushed it out. */
export function readBlock(name) {
  const known = inflated.get(name) ?? inflate(findBlock(name).textContent);
  inflated.delete(name);
  inflated.set(name, known);
  if (inflated.size > KEPT_BLOCKS) inflated.delete(inflated.keys().next().value);
  return known;
}

async function inflate(text) {
  const stream = new Blob([decodeBase64(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

function decodeBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** A number that is stored as a whole number of its last decimal; NaN where none is stored. */
export function unquantise(code, decimals) {
  return code === null ? NaN : code / 10 ** decimals;
}
