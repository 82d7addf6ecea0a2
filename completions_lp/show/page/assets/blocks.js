// The blocks that the page carries: base64 of deflated columns, inflated when first asked for.

const meta = JSON.parse(document.getElementById("meta").textContent);
const MISSING = -2147483648; // stands for NaN among quantised values
const KEPT_BLOCKS = 48;
const inflated = new Map(); // the most recently used last

function hasBlock(name) {
  return Object.hasOwn(meta.columns, name);
}

/** The columns of a block, as a promise; the block stays inflated until others have pushed it out. */
function readBlock(name) {
  const known = inflated.get(name) ?? inflate(name);
  inflated.delete(name);
  inflated.set(name, known);
  if (inflated.size > KEPT_BLOCKS) inflated.delete(inflated.keys().next().value);
  return known;
}

async function inflate(name) {
  const text = document.getElementById(`block-${name}`).textContent;
  const stream = new Blob([decodeBase64(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const columns = {};
  let place = 0;
  for (const [column, kind, size] of meta.columns[name]) {
    const width = { json: 1, u1: 1, q4: 4, f8: 8 }[kind];
    columns[column] = READERS[kind](bytes.subarray(place, place + size * width), size);
    place += size * width;
  }
  return columns;
}

const READERS = {
  json: (bytes) => JSON.parse(new TextDecoder().decode(bytes)),
  u1: (bytes) => bytes,
  // Four byte planes of zigzag-coded whole numbers.
  q4: (bytes, size) => {
    const out = new Int32Array(size);
    for (let i = 0; i < size; i++) {
      const code = bytes[i] | (bytes[size + i] << 8) | (bytes[2 * size + i] << 16) | (bytes[3 * size + i] << 24);
      out[i] = (code >>> 1) ^ -(code & 1);
    }
    return out;
  },
  // Eight byte planes of doubles, as they are in summary.csv.
  f8: (bytes, size) => {
    const planes = new Uint8Array(size * 8);
    for (let plane = 0; plane < 8; plane++) {
      for (let i = 0; i < size; i++) planes[8 * i + plane] = bytes[plane * size + i];
    }
    return new Float64Array(planes.buffer);
  },
};

function decodeBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** A quantised value as a number. */
function unquantise(code, decimals) {
  return code === MISSING ? NaN : code / 10 ** decimals;
}
