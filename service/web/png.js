/** PNGs of one byte a pixel: grey, or indices into Pascal VOC's palette. A canvas can only write colours. */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit += 1) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/** @param {Uint8Array} bytes */
function checksum(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

/** @param {string} name @param {Uint8Array} data @returns {Uint8Array<ArrayBuffer>} */
function chunk(name, data) {
  const bytes = new Uint8Array(data.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(
    Array.from(name, (letter) => letter.charCodeAt(0)),
    4,
  );
  bytes.set(data, 8);
  view.setUint32(data.length + 8, checksum(bytes.subarray(4, data.length + 8)));
  return bytes;
}

/** @param {Uint8Array<ArrayBuffer>} bytes */
async function deflated(bytes) {
  return new Uint8Array(
    await new Response(new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer(),
  );
}

/** The colours of Pascal VOC: each label's bits, dealt in turn to red, green and blue from the top. */
export function vocPalette() {
  const palette = new Uint8Array(768);
  for (let label = 0; label < 256; label += 1)
    for (let bit = 0; bit < 8; bit += 1)
      for (let channel = 0; channel < 3; channel += 1)
        palette[3 * label + channel] |= ((label >> (3 * bit + channel)) & 1) << (7 - bit);
  return palette;
}

/**
 * A PNG of one byte a pixel.
 * @param {Uint8Array} pixels @param {number} width @param {number} height @param {Uint8Array} [palette] without one it is grey
 */
export async function png(pixels, width, height, palette) {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, palette ? 3 : 0, 0, 0, 0], 8);
  const lines = new Uint8Array((width + 1) * height);
  for (let y = 0; y < height; y += 1) lines.set(pixels.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const colours = palette ? [chunk("PLTE", palette)] : [];
  const parts = [
    new Uint8Array(SIGNATURE),
    chunk("IHDR", header),
    ...colours,
    chunk("IDAT", await deflated(lines)),
    chunk("IEND", new Uint8Array(0)),
  ];
  return new Blob(parts, { type: "image/png" });
}
