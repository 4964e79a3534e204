/** A layer: a word's or a token's heat and mask over an image, in a colour of its own. */
import { cut, edges, paint, range, shades, shareOf, steps } from "./heat.js";
import { numbers } from "./api.js";
import { decode } from "./rle.js";

/** @typedef {import("./heat.js").Mask} Mask */

const COLORS = ["#1e88ff", "#f0389f", "#ffb000", "#12b76a", "#8b5cff", "#ff5a36", "#00b8c4", "#b3a600"];

/** The colour of the n-th layer. @param {number} number */
export function colorOf(number) {
  return COLORS[number % COLORS.length];
}

/** One layer. What changes it makes it stale; it is brought up to date when it is drawn. */
export class Layer {
  /**
   * @param {string} label @param {number} width @param {number} height @param {string} color
   * @param {{segment?: any, heat?: import("./heat.js").Heat, source?: string, causal?: any}} [found] what a job has found
   */
  constructor(label, width, height, color, { segment, heat, source = "", causal } = {}) {
    this.label = label;
    this.width = width;
    this.height = height;
    this.color = color;
    this.segment = segment;
    this.causal = causal; // how the image was drawn again
    this.source = source;
    this.heat = heat ?? null;
    this.high = heat ? range(heat).high : 0;
    this.steps = heat ? steps(heat) : null;
    this.mask = /** @type {Mask} */ (segment ? decode(segment.rle) : new Uint8Array(width * height));
    this.given = this.mask.slice();
    this.share = heat ? shareOf(heat, segment.settings.threshold, segment.area) : 1;
    this.givenShare = this.share;
    this.opacity = 0.85;
    this.visible = true;
    /** @type {"given" | "cut" | "painted"} where the mask comes from */
    this.origin = segment ? "given" : "painted";
    this.stale = true;
    this.canvas = new OffscreenCanvas(width, height);
    this.image = new ImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.outline = new Path2D();
  }

  /**
   * Load the heat of a segment, as its threshold cuts it.
   * @param {any} segment @param {any} result @param {string} color @param {string} source @param {AbortSignal} signal
   */
  static async of(segment, result, color, source, signal) {
    const heat = await numbers(segment.refined_npy ?? segment.heatmap_npy, signal);
    return new Layer(segment.label, result.width, result.height, color, { segment, heat, source, causal: result.causal });
  }

  /** Cut the mask at another share of the hottest pixel's heat, when it is drawn next. @param {number} share */
  cutAt(share) {
    if (!this.heat) return;
    this.share = share;
    this.origin = "cut";
    this.stale = true;
  }

  /** The mask was painted on. */
  painted() {
    this.origin = "painted";
    this.stale = true;
  }

  /** Take the mask as the service gave it. */
  restore() {
    this.mask.set(this.given);
    this.share = this.givenShare;
    this.origin = this.segment ? "given" : "painted";
    this.stale = true;
  }

  /** @param {string} color as #rrggbb */
  colored(color) {
    this.color = color;
    this.stale = true;
  }

  /** Bring mask, picture and outline up to date; once a frame, however often the slider moved. */
  refresh() {
    if (!this.stale) return this;
    this.stale = false;
    if (this.origin === "cut" && this.heat) cut(this.heat, this.share, this.high, this.mask);
    const channels = [1, 3, 5].map((at) => parseInt(this.color.slice(at, at + 2), 16));
    paint(this.pixels, this.mask, this.steps, shades(channels));
    this.canvas.getContext("2d")?.putImageData(this.image, 0, 0);
    const outline = new Path2D();
    edges(this.mask, this.width, this.height, (x0, y0, x1, y1) => {
      outline.moveTo(x0, y0);
      outline.lineTo(x1, y1);
    });
    this.outline = outline;
    return this;
  }
}
