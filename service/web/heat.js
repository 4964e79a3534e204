/** From heat to what is seen: cuts, colours and outlines, on typed arrays. Nothing here touches the page. */

/** @typedef {Float32Array<ArrayBuffer>} Heat one number a pixel, row by row */
/** @typedef {Uint8Array<ArrayBuffer>} Mask 1 inside, 0 outside */

/** The hottest and the coolest pixel. @param {Heat} heat */
export function range(heat) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of heat) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { low, high };
}

/**
 * The share of the hottest pixel's heat at which a segment's threshold cuts.
 * @param {Heat} heat @param {any} threshold as in the segment's settings @param {number} area of its mask
 */
export function shareOf(heat, threshold, area) {
  const { high } = range(heat);
  if (threshold.kind === "share") return threshold.tau;
  if (high <= 0) return 1;
  if (threshold.kind === "absolute") return Math.min(1, threshold.level / high);
  const sorted = heat.slice().sort();
  return sorted[Math.max(0, sorted.length - Math.max(1, area))] / high;
}

/**
 * Mark what reaches a share of the hottest pixel's heat, in single precision as the service does.
 * @param {Heat} heat @param {number} share @param {number} high the hottest @param {Mask} mask
 */
export function cut(heat, share, high, mask) {
  const level = high > 0 ? Math.fround(share * high) : Infinity;
  for (let at = 0; at < heat.length; at += 1) mask[at] = heat[at] >= level ? 1 : 0;
}

/** Heat in 256 steps from the coolest to the hottest pixel. @param {Heat} heat */
export function steps(heat) {
  const { low, high } = range(heat);
  const scale = high > low ? 255 / (high - low) : 0;
  return Uint8Array.from(heat, (value) => (value - low) * scale);
}

/**
 * What a pixel of a layer looks like, for each step of heat, inside and outside of its mask; RGBA as bytes lie in memory.
 * @param {number[]} color red, green, blue
 */
export function shades(color) {
  /** @param {(heat: number) => number} alpha */
  const table = (alpha) =>
    Uint32Array.from({ length: 256 }, (_, step) => {
      const heat = step / 255;
      const [red, green, blue] = color.map((channel) => Math.round(channel + (255 - channel) * 0.35 * heat ** 5)); // the hottest glow
      return (red | (green << 8) | (blue << 16) | (Math.round(255 * alpha(heat)) << 24)) >>> 0;
    });
  return { inside: table((heat) => 0.22 + 0.56 * heat), outside: table((heat) => 0.55 * heat ** 1.5) };
}

/**
 * Colour every pixel of a layer.
 * @param {Uint32Array} pixels @param {Mask} mask @param {Uint8Array | null} heat in steps
 * @param {ReturnType<typeof shades>} shade
 */
export function paint(pixels, mask, heat, { inside, outside }) {
  if (heat) for (let at = 0; at < pixels.length; at += 1) pixels[at] = mask[at] ? inside[heat[at]] : outside[heat[at]];
  else for (let at = 0; at < pixels.length; at += 1) pixels[at] = mask[at] ? inside[100] : 0;
}

/**
 * The edges between a mask's pixels and the others, as straight lines: x0, y0, x1, y1 of each. The image's own border is none.
 * @param {Mask} mask @param {number} width @param {number} height @param {(x0: number, y0: number, x1: number, y1: number) => void} line
 */
export function edges(mask, width, height, line) {
  for (let y = 1; y < height; y += 1) {
    let from = -1;
    for (let x = 0; x <= width; x += 1) {
      const edge = x < width && mask[(y - 1) * width + x] !== mask[y * width + x];
      if (edge && from < 0) from = x;
      if (!edge && from >= 0) {
        line(from, y, x, y);
        from = -1;
      }
    }
  }
  for (let x = 1; x < width; x += 1) {
    let from = -1;
    for (let y = 0; y <= height; y += 1) {
      const edge = y < height && mask[y * width + x - 1] !== mask[y * width + x];
      if (edge && from < 0) from = y;
      if (!edge && from >= 0) {
        line(x, from, x, y);
        from = -1;
      }
    }
  }
}

/** Pixels of a mask. @param {Mask} mask */
export function area(mask) {
  let count = 0;
  for (const inside of mask) count += inside;
  return count;
}

/** x, y, width, height of what a mask covers. @param {Mask} mask @param {number} width */
export function box(mask, width) {
  let [left, top, right, bottom] = [Infinity, Infinity, -1, -1];
  for (let at = 0; at < mask.length; at += 1) {
    if (!mask[at]) continue;
    const x = at % width;
    const y = (at - x) / width;
    [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
  }
  return right < 0 ? [0, 0, 0, 0] : [left, top, right - left + 1, bottom - top + 1];
}
