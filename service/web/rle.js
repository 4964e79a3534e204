/** COCO's compressed run lengths: down the columns, outside first, in 5-bit pieces from 48 up; from the third on, differences. */

/** @typedef {import("./heat.js").Mask} Mask */

/** @param {string} counts @returns {number[]} */
function lengths(counts) {
  /** @type {number[]} */
  const runs = [];
  for (let at = 0; at < counts.length;) {
    let [value, shift, more] = [0, 0, true];
    while (more) {
      const piece = counts.charCodeAt(at) - 48;
      value |= (piece & 31) << shift;
      more = (piece & 32) !== 0;
      at += 1;
      shift += 5;
      if (!more && piece & 16 && shift < 32) value |= -1 << shift;
    }
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/** The mask that run lengths mean. @param {{size: number[], counts: string}} rle @returns {Mask} */
export function decode({ size: [height, width], counts }) {
  const mask = new Uint8Array(width * height);
  let place = 0;
  lengths(counts).forEach((run, number) => {
    for (let end = place + run; place < end; place += 1)
      if (number % 2) mask[(place % height) * width + Math.floor(place / height)] = 1;
  });
  return mask;
}

/** A mask as run lengths. @param {Mask} mask @param {number} width @param {number} height */
export function encode(mask, width, height) {
  /** @type {number[]} */
  const runs = [];
  let [inside, run] = [0, 0];
  for (let x = 0; x < width; x += 1) {
    for (let y = 0; y < height; y += 1) {
      if (mask[y * width + x] === inside) run += 1;
      else {
        runs.push(run);
        [inside, run] = [1 - inside, 1];
      }
    }
  }
  runs.push(run);
  return { size: [height, width], counts: runs.map((value, at) => pieces(at > 2 ? value - runs[at - 2] : value)).join("") };
}

/** @param {number} value */
function pieces(value) {
  let text = "";
  for (let more = true; more;) {
    let piece = value & 31;
    value >>= 5;
    more = piece & 16 ? value !== -1 : value !== 0;
    if (more) piece |= 32;
    text += String.fromCharCode(piece + 48);
  }
  return text;
}
