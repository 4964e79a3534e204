/** Painting on a mask: the tools above the picture. */
import { Brush } from "./brush.js";
import { area } from "./heat.js";
import { announce, button, fill, h, iconButton } from "./dom.js";
import { encode } from "./rle.js";

/** @typedef {import("./layers.js").Layer} Layer */

/** @param {import("./workspace.js").Desk} desk @param {import("./layerlist.js").LayerList} list */
export function painting(desk, list) {
  const { stage } = desk;
  const element = h("div", { class: "tools", role: "toolbar", "aria-label": "Brush", hidden: true });
  const hint = "Click a place, or draw a box, to ask which words are there.";
  const keys =
    "Keys: arrows move, Space paints, Shift with arrows draws, B adds, E erases, [ and ] change the size, Ctrl+Z undoes, Escape ends.";
  const adding = button("Add", () => turn("adding"));
  const erasing = button("Erase", () => turn("erasing"));
  const size = h("input", {
    type: "range",
    min: "1",
    max: "64",
    "aria-label": "Size of the brush",
    oninput: () => desk.hands.brush && (desk.hands.brush.size = size.valueAsNumber),
  });
  const undo = iconButton("undo", "Undo", () => turn("undo"));
  const redo = iconButton("redo", "Redo", () => turn("redo"));
  const name = h("strong", {});
  fill(
    element,
    name,
    h("div", { class: "segmented" }, adding, erasing),
    h("label", { class: "slider" }, h("span", {}, "Size"), size),
    undo,
    redo,
    button("Done", () => close(), { class: "primary" }),
  );

  const show = () => {
    const { brush } = desk.hands;
    if (!brush) return;
    adding.setAttribute("aria-pressed", String(brush.adding));
    erasing.setAttribute("aria-pressed", String(!brush.adding));
    size.value = String(brush.size);
    undo.disabled = !brush.past.length;
    redo.disabled = !brush.future.length;
  };
  const painted = () => {
    const first = stage.only?.origin !== "painted";
    stage.only?.painted();
    first ? list.update() : stage.plan();
    show();
  };
  /** @param {"undo" | "redo" | "adding" | "erasing" | "smaller" | "larger"} tool */
  const turn = (tool) => {
    const { brush } = desk.hands;
    if (!brush) return;
    if (tool === "undo" ? brush.undo() : tool === "redo" && brush.redo()) painted();
    if (tool === "adding" || tool === "erasing") brush.adding = tool === "adding";
    if (tool === "smaller" || tool === "larger")
      brush.size = Math.min(
        64,
        Math.max(1, Math.round(brush.size * (tool === "larger" ? 1.25 : 0.8) + (tool === "larger" ? 0.5 : -0.5))),
      );
    announce(tool);
    show();
  };
  /** @param {Layer} layer */
  const open = (layer) => {
    if (stage.only) close();
    layer.refresh();
    layer.visible = true;
    stage.only = layer;
    stage.asked = null;
    desk.hands.brush = new Brush(layer.mask, layer.width, layer.height);
    size.max = String(Math.round(Math.max(layer.width, layer.height) / 2));
    name.textContent = layer.label;
    element.hidden = false;
    stage.element.classList.add("painted");
    say(keys);
    stage.canvas.focus({ preventScroll: true });
    stage.element.scrollIntoView({ block: "nearest" });
    show();
    list.update();
  };
  const close = () => {
    const layer = stage.only;
    if (!layer) return;
    if (layer.origin === "painted" && layer.source)
      sessionStorage.setItem(`ovam-mask-${layer.source}`, encode(layer.mask, layer.width, layer.height).counts);
    announce(`${layer.label}: ${area(layer.mask)} pixels`);
    stage.only = desk.hands.brush = stage.cursor = null;
    element.hidden = true;
    stage.element.classList.remove("painted");
    say(hint);
    list.update();
  };
  const say = (/** @type {string} */ text) => fill(/** @type {Element} */ (document.getElementById("stage-keys")), text);
  return { element, open, close, painted, turn };
}
