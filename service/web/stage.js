/** The image with its layers, on one canvas at the screen's own resolution. */
import { h } from "./dom.js";

/**
 * @typedef {import("./layers.js").Layer} Layer
 * @typedef {{x: number, y: number}} Point in pixels of the image
 * @typedef {{x: number, y: number, width: number, height: number}} Area
 */

const BEHIND = 0.3; // of the opacity of layers that are not worked on

export class Stage {
  /** @param {number} width of the image @param {number} height @param {string} label */
  constructor(width, height, label) {
    this.width = width;
    this.height = height;
    this.canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": label, "aria-describedby": "stage-keys" });
    this.element = h("div", { class: "stage" }, this.canvas);
    this.element.style.aspectRatio = `${width} / ${height}`;
    this.element.style.setProperty("--shape", String(width / height));
    /** @type {ImageBitmap | null} */
    this.image = null;
    /** @type {OffscreenCanvas | null} */
    this.ground = null;
    /** @type {Layer[]} drawn in this order */
    this.layers = [];
    /** @type {Layer | null} the one that is worked on: the others' heat steps back */
    this.front = null;
    /** @type {Layer | null} drawn alone while it is painted */
    this.only = null;
    /** @type {Area | null} what was asked about */
    this.asked = null;
    /** @type {(Point & {size: number}) | null} the brush, or the place of the keyboard */
    this.cursor = null;
    this.planned = false;
    this.resizing = new ResizeObserver(() => this.fit());
    this.resizing.observe(this.element);
  }

  /** Match the canvas to the screen's pixels. */
  fit() {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(this.element.clientWidth * ratio));
    const height = Math.max(1, Math.round((width * this.height) / this.width));
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.ground = null;
    this.draw();
  }

  /** The image at the canvas's size: it is scaled once, not in every frame. */
  base() {
    const { image, canvas } = this;
    if (!image || this.ground) return this.ground;
    this.ground = new OffscreenCanvas(canvas.width, canvas.height);
    const context = this.ground.getContext("2d");
    if (context) context.imageSmoothingQuality = "high";
    context?.drawImage(image, 0, 0, canvas.width, canvas.height);
    return this.ground;
  }

  /** Screen pixels for one of the image. */
  get scale() {
    return this.canvas.width / this.width;
  }

  /** Where in the image an event of a pointer is. @param {PointerEvent} event @returns {Point} */
  place(event) {
    const frame = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - frame.left) / frame.width) * this.width,
      y: ((event.clientY - frame.top) / frame.height) * this.height,
    };
  }

  /** Draw before the next frame; many calls make one drawing. */
  plan() {
    if (this.planned) return;
    this.planned = true;
    requestAnimationFrame(() => {
      this.planned = false;
      this.draw();
    });
  }

  /** Draw now. */
  draw() {
    const context = this.canvas.getContext("2d");
    if (!context) return;
    const { scale, canvas } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    const base = this.base();
    base ? context.drawImage(base, 0, 0) : context.clearRect(0, 0, canvas.width, canvas.height);
    const shown = this.only ? [this.only] : this.layers.filter((layer) => layer.visible);
    for (const layer of shown) {
      context.globalAlpha = layer.opacity * (this.front && layer !== this.front ? BEHIND : 1);
      context.drawImage(layer.refresh().canvas, 0, 0, canvas.width, canvas.height);
    }
    context.globalAlpha = 1;
    context.scale(scale, scale);
    for (const layer of shown) {
      this.line(context, layer.outline, "rgb(0 0 0 / 35%)", 3.4);
      this.line(context, layer.outline, layer.color, 1.8);
    }
    if (this.asked) this.mark(context, this.asked);
    if (this.cursor) this.point(context, this.cursor);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Path2D} path @param {string} color @param {number} width of the line on the screen
   */
  line(context, path, color, width) {
    context.strokeStyle = color;
    context.lineWidth = (width * Math.min(devicePixelRatio || 1, 2)) / this.scale;
    context.lineCap = "square";
    context.stroke(path);
  }

  /** @param {CanvasRenderingContext2D} context @param {Area} area */
  mark(context, { x, y, width, height }) {
    const path = new Path2D();
    if (width > 1 || height > 1) path.rect(x, y, width, height);
    else path.arc(x + 0.5, y + 0.5, (7 / this.scale) * Math.min(devicePixelRatio || 1, 2), 0, 7);
    this.line(context, path, "#000", 4);
    this.line(context, path, "#fff", 2);
  }

  /** @param {CanvasRenderingContext2D} context @param {Point & {size: number}} cursor */
  point(context, { x, y, size }) {
    const path = new Path2D();
    path.arc(x, y, size / 2, 0, 7);
    this.line(context, path, "#000", 3);
    this.line(context, path, "#fff", 1.5);
  }
}
