/** What can be taken along: the image, and the visible layers' masks in the forms that others read. */
import { blob } from "./api.js";
import { button, h, save, slug } from "./dom.js";
import { area, box } from "./heat.js";
import { Layer } from "./layers.js";
import { encode } from "./rle.js";
import { png, vocPalette } from "./png.js";

/** @param {import("./workspace.js").Desk} desk */
export function downloads(desk) {
  const { record, image, stage, signal } = desk;
  const file = record.result.images[image].image;
  const name = `${slug(record.request?.prompt || "photograph").slice(0, 40)}-${record.id.slice(-6)}-${image}`;
  const shown = () => stage.layers.filter((layer) => layer.visible);
  const masks = async () => {
    for (const layer of shown())
      save(
        await png(
          layer.refresh().mask.map((inside) => inside * 255),
          layer.width,
          layer.height,
        ),
        `${name}-${slug(layer.label)}.png`,
      );
  };
  const ofMasks = [
    button("Masks", masks, { title: "A PNG of each visible layer" }),
    button(
      "COCO",
      () =>
        save(
          new Blob([JSON.stringify(coco(shown(), `${name}.png`), null, 1)], { type: "application/json" }),
          `${name}-coco.json`,
        ),
      { title: "The visible layers as JSON, with run lengths" },
    ),
    button("VOC", async () => save(await png(labels(shown()), stage.width, stage.height, vocPalette()), `${name}-voc.png`), {
      title: "The visible layers as one indexed PNG",
    }),
  ];
  const empty = button(
    "Paint a mask by hand",
    () => {
      const number = stage.layers.filter((layer) => layer.source.startsWith("hand-")).length + 1;
      const layer = new Layer(`mask ${number}`, stage.width, stage.height, "#1f8fff", { source: `hand-mask ${number}` });
      desk.add(layer);
      desk.edit(layer);
    },
    { class: "link" },
  );
  const update = () => ofMasks.forEach((each) => (each.disabled = !shown().length));
  addEventListener("layers", update, { signal });
  update();
  return h(
    "section",
    { class: "downloads", "aria-label": "Download" },
    empty,
    h("h2", {}, "Download"),
    h(
      "div",
      { class: "row" },
      button("Image", async () => save(await blob(file, signal), `${name}.png`)),
      ofMasks,
    ),
  );
}

/** The layers as a COCO file of one image. @param {Layer[]} layers @param {string} fileName */
export function coco(layers, fileName) {
  const [{ width, height }] = layers;
  const names = [...new Set(layers.map((layer) => layer.label))];
  return {
    images: [{ id: 1, file_name: fileName, width, height }],
    annotations: layers.map((layer, number) => {
      const { mask } = layer.refresh();
      const about = { id: number + 1, image_id: 1, category_id: names.indexOf(layer.label) + 1, iscrowd: 0 };
      return { ...about, segmentation: encode(mask, width, height), area: area(mask), bbox: box(mask, width) };
    }),
    categories: names.map((name, number) => ({ id: number + 1, name })),
  };
}

/**
 * One label for each pixel, 1 for the first layer; where layers overlap, the one that exceeds its threshold most, as in the
 * service's semantic maps. What was painted by hand goes before what was found.
 * @param {Layer[]} layers
 */
export function labels(layers) {
  const [{ width, height }] = layers;
  const map = new Uint8Array(width * height);
  const best = new Float32Array(width * height).fill(-Infinity);
  layers.forEach((layer, number) => {
    const { mask, heat, high, share, origin } = layer.refresh();
    for (let at = 0; at < map.length; at += 1) {
      if (!mask[at]) continue;
      const margin = heat && origin !== "painted" ? heat[at] / high - share : 1;
      if (margin > best[at]) [best[at], map[at]] = [margin, number + 1];
    }
  });
  return map;
}
