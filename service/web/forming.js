/** The picture while it forms, with the masks so far: previews that a generation's events carry when it has targets. */
import { fill, h } from "./dom.js";
import { edges } from "./heat.js";
import { colorOf } from "./layers.js";

/**
 * @typedef {{label: string, area: number, mask: string | null}} PreviewMask
 * @typedef {{image: number, seed: number, picture: string | null, masks: PreviewMask[]}} Preview
 */

export class Forming {
  /** @param {number} width of the image @param {number} height */
  constructor(width, height) {
    this.canvas = h("canvas", { role: "img", "aria-label": "The picture so far" });
    this.element = h("div", { class: "stage forming" }, this.canvas);
    this.element.style.aspectRatio = `${width} / ${height}`;
    this.element.style.setProperty("--shape", String(width / height));
    this.legend = h("ul", { class: "legend", "aria-label": "Found so far" });
    this.begun = 0;
    this.drawn = 0;
  }

  /** Show an event's preview, if it has one. @param {any} data of the event */
  async show(data) {
    const preview = /** @type {Preview | undefined} */ (data.progress?.preview);
    if (!preview) return;
    const turn = (this.begun += 1);
    const pictures = [preview.picture, ...preview.masks.map((each) => each.mask)];
    const [picture, ...masks] = await Promise.all(pictures.map((url) => (url ? createImageBitmap(bytes(url)) : null)));
    // Not only the newest: where events come faster than pictures are decoded, nothing would ever be drawn.
    if (turn < this.drawn) return;
    this.drawn = turn;
    this.draw(preview, picture, masks);
  }

  /** @param {Preview} preview @param {ImageBitmap | null} picture @param {(ImageBitmap | null)[]} masks */
  draw(preview, picture, masks) {
    const { canvas } = this;
    const width = (canvas.width = this.element.clientWidth);
    const height = (canvas.height = this.element.clientHeight);
    const context = canvas.getContext("2d");
    if (!context) return;
    this.element.classList.add("shown");
    context.imageSmoothingQuality = "high";
    if (picture) context.drawImage(picture, 0, 0, width, height);
    masks.forEach((mask, number) => {
      if (!mask) return;
      context.setTransform(width / mask.width, 0, 0, height / mask.height, 0, 0);
      context.lineWidth = (2.5 * mask.width) / width;
      context.strokeStyle = colorOf(number);
      context.stroke(outline(mask));
      context.resetTransform();
    });
    fill(
      this.legend,
      ...preview.masks.map(({ label, area, mask }, number) => {
        const dot = h("span", { class: "dot" });
        dot.style.background = colorOf(number);
        return h("li", {}, dot, label, h("small", {}, mask ? `${Math.round(100 * area)} %` : "…"));
      }),
    );
  }
}

/** The outline of a picture that is white inside. @param {ImageBitmap} picture */
function outline(picture) {
  const { width, height } = picture;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  const path = new Path2D();
  if (!context) return path;
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, width, height).data;
  const mask = Uint8Array.from({ length: width * height }, (_, at) => (pixels[4 * at] > 127 ? 1 : 0));
  edges(mask, width, height, (x0, y0, x1, y1) => {
    path.moveTo(x0, y0);
    path.lineTo(x1, y1);
  });
  return path;
}

/** The bytes of a `data:` URL, which the page's policy lets no image load. @param {string} url */
function bytes(url) {
  const [head, data] = url.split(",");
  return new Blob([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], { type: head.slice(5).split(";")[0] });
}
