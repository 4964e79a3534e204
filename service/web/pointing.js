/** What pointer and keyboard do on the stage: ask about a place, or paint. */
import { announce } from "./dom.js";

/**
 * @typedef {import("./stage.js").Stage} Stage
 * @typedef {import("./stage.js").Point} Point
 * @typedef {import("./stage.js").Area} Area
 * @typedef {object} Hands
 * @property {import("./brush.js").Brush | null} brush what is painted with; without one, places are asked about
 * @property {(area: Area) => void} ask about a pixel (1 x 1) or a box
 * @property {() => void} painted
 * @property {() => void} left painting is over
 * @property {(name: "undo" | "redo" | "adding" | "erasing" | "smaller" | "larger") => void} turn a key for the brush's tools
 */

/** Let pointer and keyboard work on a stage. @param {Stage} stage @param {Hands} hands */
export function point(stage, hands) {
  const { canvas } = stage;
  /** @type {Point | null} */
  let from = null;
  /** @type {Point} */
  let last = { x: 0, y: 0 };

  /** @param {Point} to */
  const paint = (to) => {
    hands.brush?.stroke(last.x, last.y, to.x, to.y);
    last = to;
    hands.painted();
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    from = last = stage.place(event);
    canvas.setPointerCapture(event.pointerId);
    hands.brush?.begin();
    if (hands.brush) paint(from);
  });
  canvas.addEventListener("pointermove", (event) => {
    const here = stage.place(event);
    if (hands.brush) {
      stage.cursor = { ...here, size: hands.brush.size };
      if (from) for (const each of event.getCoalescedEvents?.() ?? [event]) paint(stage.place(each));
    } else if (from) {
      stage.asked = between(from, here, stage);
    }
    stage.plan();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (from && !hands.brush) {
      const to = stage.place(event);
      const moved = Math.hypot(to.x - from.x, to.y - from.y) * (canvas.clientWidth / stage.width) > 5;
      hands.ask(between(from, moved ? to : from, stage));
    }
    from = null;
  });
  canvas.addEventListener("pointercancel", () => (from = null));
  canvas.addEventListener("pointerleave", () => {
    stage.cursor = null;
    stage.plan();
  });
  canvas.addEventListener("blur", () => {
    stage.cursor = null;
    stage.plan();
  });
  byKeys(stage, hands);
}

/** @param {Stage} stage @param {Hands} hands */
function byKeys(stage, hands) {
  const at = { x: Math.floor(stage.width / 2) + 0.5, y: Math.floor(stage.height / 2) + 0.5 };
  /** @type {Point | null} where a box begins */
  let corner = null;
  /** @type {Record<string, [number, number]>} */
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  /** @type {Record<string, "undo" | "redo" | "adding" | "erasing" | "smaller" | "larger">} */
  const TOOLS = {
    b: "adding",
    e: "erasing",
    "[": "smaller",
    "]": "larger",
    "ctrl+z": "undo",
    "ctrl+y": "redo",
    "ctrl+Z": "redo",
  };

  /** @param {KeyboardEvent} event */
  const move = (event) => {
    const step = event.altKey ? 1 : Math.max(1, Math.round(stage.width / 64));
    const [dx, dy] = ARROWS[event.key];
    const before = { ...at };
    at.x = Math.min(stage.width - 0.5, Math.max(0.5, at.x + dx * step));
    at.y = Math.min(stage.height - 0.5, Math.max(0.5, at.y + dy * step));
    if (hands.brush && event.shiftKey) {
      if (!event.repeat) hands.brush.begin();
      hands.brush.stroke(before.x, before.y, at.x, at.y);
      hands.painted();
    }
    if (!hands.brush) {
      corner = event.shiftKey ? (corner ?? before) : null;
      if (corner) stage.asked = between(corner, at, stage);
    }
    stage.cursor = { ...at, size: hands.brush?.size ?? stage.width / 32 };
    announce(`${Math.floor(at.x)}, ${Math.floor(at.y)}`);
    stage.plan();
  };
  const use = () => {
    if (hands.brush) {
      hands.brush.begin();
      hands.brush.dab(at.x, at.y);
      hands.painted();
    } else {
      hands.ask(between(corner ?? at, at, stage));
      corner = null;
    }
  };
  stage.canvas.addEventListener("keydown", (event) => {
    const key = `${event.ctrlKey || event.metaKey ? "ctrl+" : ""}${event.key}`;
    if (event.key in ARROWS) move(event);
    else if (key === "Enter" || key === " ") use();
    else if (key === "Escape" && hands.brush) hands.left();
    else if (hands.brush && key in TOOLS) hands.turn(TOOLS[key]);
    else return;
    event.preventDefault();
  });
}

/**
 * The pixels between two places, at least one, inside of the image.
 * @param {Point} from @param {Point} to @param {{width: number, height: number}} size @returns {Area}
 */
function between(from, to, size) {
  /** @type {(a: number, b: number, most: number) => [number, number]} */
  const span = (a, b, most) => {
    const low = Math.min(most - 1, Math.max(0, Math.floor(Math.min(a, b))));
    return [low, Math.min(most, Math.max(low + 1, Math.floor(Math.max(a, b)) + 1)) - low];
  };
  const [x, width] = span(from.x, to.x, size.width);
  const [y, height] = span(from.y, to.y, size.height);
  return { x, y, width, height };
}
