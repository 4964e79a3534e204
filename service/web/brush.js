/** A brush on a mask: round, adding or erasing, with steps back and forth. */

/** @typedef {import("./heat.js").Mask} Mask */

const MOST_STEPS = 50;

export class Brush {
  /** @param {Mask} mask which is changed @param {number} width @param {number} height */
  constructor(mask, width, height) {
    this.mask = mask;
    this.width = width;
    this.height = height;
    this.adding = true;
    this.size = Math.max(2, Math.round(Math.min(width, height) / 12)); // diameter, pixels of the image
    /** @type {Mask[]} */
    this.past = [];
    /** @type {Mask[]} */
    this.future = [];
  }

  /** Begin a stroke: what was before can be had again. */
  begin() {
    this.past.push(this.mask.slice());
    if (this.past.length > MOST_STEPS) this.past.shift();
    this.future = [];
  }

  /** Paint from one place to another. @param {number} x0 @param {number} y0 @param {number} x1 @param {number} y1 */
  stroke(x0, y0, x1, y1) {
    const count = Math.max(1, Math.ceil((Math.hypot(x1 - x0, y1 - y0) * 4) / this.size));
    for (let step = 0; step <= count; step += 1) this.dab(x0 + ((x1 - x0) * step) / count, y0 + ((y1 - y0) * step) / count);
  }

  /** Paint a disc. Places are continuous: a pixel's middle is half a pixel in. @param {number} x @param {number} y */
  dab(x, y) {
    const radius = Math.max(0.5, this.size / 2);
    const value = this.adding ? 1 : 0;
    const [top, bottom] = [Math.max(0, Math.floor(y - radius)), Math.min(this.height - 1, Math.ceil(y + radius))];
    for (let row = top; row <= bottom; row += 1) {
      const half = Math.sqrt(Math.max(0, radius ** 2 - (row + 0.5 - y) ** 2));
      const from = Math.max(0, Math.ceil(x - half - 0.5));
      const to = Math.min(this.width, Math.floor(x + half - 0.5) + 1);
      if (from < to) this.mask.fill(value, row * this.width + from, row * this.width + to);
    }
  }

  /** @param {Mask[]} from @param {Mask[]} to */
  step(from, to) {
    const found = from.pop();
    if (!found) return false;
    to.push(this.mask.slice());
    this.mask.set(found);
    return true;
  }

  /** Take the last stroke back; whether there was one. */
  undo() {
    return this.step(this.past, this.future);
  }

  /** Make the stroke again that was taken back last; whether there was one. */
  redo() {
    return this.step(this.future, this.past);
  }
}
