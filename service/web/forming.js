/** The picture while it forms, with live masks where the events carry them. */
import { fill, h } from "./dom.js";

export class Forming {
  /** @param {number} width @param {number} height */
  constructor(width, height) {
    this.element = h("div", { class: "stage forming" });
    this.element.style.aspectRatio = `${width} / ${height}`;
    this.element.style.setProperty("--shape", String(width / height));
  }

  /** @param {string} event @param {any} data @param {AbortSignal} signal */
  show(event, data, signal) {
    void [event, data, signal, fill];
  }
}
