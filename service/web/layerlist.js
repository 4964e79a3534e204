/** The list of layers: each with its colour, visibility, threshold and opacity, and what can be done with its mask. */
import { button, fill, h, icon, iconButton } from "./dom.js";
import { comparisons, sureness } from "./compared.js";
import { colorOf } from "./layers.js";
import { encode } from "./rle.js";
import { changed } from "./submitting.js";

/**
 * @typedef {import("./layers.js").Layer} Layer
 * @typedef {{element: HTMLElement, update: (selected: boolean) => void}} Row
 * @typedef {{element: HTMLElement, add: (layer: Layer) => void, remove: (layer: Layer) => void, update: () => void, color: () => string}} LayerList
 */

/** @param {import("./workspace.js").Desk} desk @returns {LayerList} */
export function layerList(desk) {
  const { stage, place } = desk;
  /** @type {Map<Layer, Row>} */
  const rows = new Map();
  /** @type {Layer | null} */
  let selected = null;
  let count = 0;
  const items = h("ul", { class: "layers" });
  const element = h("section", { "aria-label": "Layers" }, items);

  const update = () => {
    for (const [layer, row] of rows) row.update(layer === selected);
    stage.front = selected?.visible ? selected : null;
    stage.plan();
  };
  const kept = () =>
    place.keep({
      found: stage.layers
        .map((layer) => layer.source)
        .filter(Boolean)
        .join("."),
    });
  const select = (/** @type {Layer | null} */ layer) => {
    selected = layer;
    update();
  };
  /** @param {Layer} layer */
  const add = (layer) => {
    const before = stage.layers.find((each) => each.source && each.source === layer.source);
    if (before) remove(before);
    stage.layers.push(layer);
    const row = rowOf(layer, desk, { select, update });
    rows.set(layer, row);
    items.append(row.element);
    select(layer);
    kept();
    dispatchEvent(new Event("layers"));
  };
  /** @param {Layer} layer */
  const remove = (layer) => {
    if (stage.only === layer) desk.hands.left();
    stage.layers = stage.layers.filter((each) => each !== layer);
    rows.get(layer)?.element.remove();
    rows.delete(layer);
    if (selected === layer) select(stage.layers.at(-1) ?? null);
    kept();
    stage.plan();
    dispatchEvent(new Event("layers"));
  };
  return { element, add, remove, update, color: () => colorOf(count++) };
}

/**
 * @param {Layer} layer
 * @param {import("./workspace.js").Desk} desk @param {{select: (layer: Layer | null) => void, update: () => void}} list
 * @returns {Row}
 */
function rowOf(layer, desk, { select, update }) {
  const color = h("input", {
    type: "color",
    value: layer.color,
    "aria-label": `Colour of ${layer.label}`,
    oninput: () => (layer.colored(color.value), desk.stage.plan()),
  });
  let open = false;
  const score = h("small", {});
  const sure = sureness(layer.segment);
  const name = button([h("span", {}, layer.label), sure, score], () => select(open ? null : layer), {
    class: "layer-name",
  });
  const eye = iconButton("eye", "", () => {
    layer.visible = !layer.visible;
    update();
    dispatchEvent(new Event("layers"));
  });
  const close = iconButton("close", `Remove ${layer.label}`, () => desk.remove(layer));
  const cut = slider("Threshold", layer.share, 0.01, (value) => {
    layer.cutAt(value);
    update();
  });
  const opacity = slider("Opacity", layer.opacity, 0, (value) => {
    layer.opacity = value;
    update();
  });
  const restore = button([icon("undo"), "As found"], () => {
    layer.restore();
    sessionStorage.removeItem(`ovam-mask-${layer.source}`);
    update();
  });
  const more = h(
    "div",
    { class: "layer-more" },
    cut.element,
    opacity.element,
    h(
      "div",
      { class: "row" },
      button([icon("brush"), "Edit mask"], () => desk.edit(layer)),
      button("Learn this", () => desk.learn(layer), { class: "accent" }),
      desk.card.can?.includes("mask") &&
        button("Redraw", () => redrawn(layer, desk), { title: "Paint the image anew inside this mask" }),
      restore,
    ),
    ...comparisons(layer, desk.signal),
  );
  const element = h("li", { class: "layer" }, h("div", { class: "layer-row" }, color, name, eye, close), more);
  return {
    element,
    update: (now) => {
      open = now;
      const { segment, origin } = layer;
      element.classList.toggle("selected", now);
      element.classList.toggle("off", !layer.visible);
      name.setAttribute("aria-expanded", String(now));
      eye.setAttribute("aria-label", `${layer.visible ? "Hide" : "Show"} ${layer.label}`);
      eye.setAttribute("title", layer.visible ? "Hide" : "Show");
      fill(eye, icon(layer.visible ? "eye" : "hidden"));
      if (sure) sure.hidden = origin !== "given"; // of the mask as it was found, and no other
      score.textContent = { given: segment ? segment.score.toFixed(2) : "", cut: "cut", painted: "by hand" }[origin];
      more.hidden = !now;
      cut.element.hidden = !layer.heat || origin === "painted";
      cut.show(layer.share);
      restore.hidden = origin === "given" || !segment;
    },
  };
}

/** Begin again with the image, painted anew inside a layer's mask. @param {Layer} layer @param {import("./workspace.js").Desk} desk */
function redrawn(layer, { record, image }) {
  const { mask, width, height } = layer.refresh();
  changed(record, { image: { job_id: record.id, image }, mask: encode(mask, width, height), strength: null });
}

/** @param {string} label @param {number} value @param {number} least @param {(value: number) => void} moved */
function slider(label, value, least, moved) {
  const output = h("output", {});
  const input = h("input", {
    type: "range",
    min: least,
    max: "1",
    step: "0.005",
    "aria-label": label,
    oninput: () => (moved(input.valueAsNumber), show(input.valueAsNumber)),
  });
  const show = (/** @type {number} */ now) => {
    input.value = String(now);
    output.textContent = now.toFixed(2);
  };
  show(value);
  return { element: h("label", { class: "slider" }, h("span", {}, label), input, output), show };
}
