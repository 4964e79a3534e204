/** The settings of a generation, as far as a model has them. */
import { fill, h } from "./dom.js";
import { field, select } from "./fields.js";
import { inputsOf } from "./options.js";

/** @typedef {import("./options.js").Option} Option */

/** What every model has. @param {any} card @returns {Option[]} */
const basic = (card) => [
  { name: "seed", label: "Seed", kind: "number", usual: "random" },
  { name: "num_images", label: "Images", kind: "number", usual: 1 },
  { name: "num_inference_steps", label: "Steps", kind: "number", usual: 30 },
  { name: "guidance_scale", label: "Guidance", kind: "number", usual: card.default_guidance_scale },
  { name: "width", label: "Width", kind: "number", usual: card.default_width },
  { name: "height", label: "Height", kind: "number", usual: card.default_height },
  { name: "scheduler", label: "Scheduler", kind: "select", usual: [["", "the model's own"], ...card.schedulers] },
];

/** What some models can: an option is there if the card says so. @param {any} card @returns {Record<string, Option[]>} */
const steering = (card) => ({
  negative_prompt: [{ name: "negative_prompt", label: "Not in the image", kind: "text" }],
  emphasis: [
    {
      name: "emphasis",
      label: "Emphasis",
      kind: "list",
      usual: "cat:1.5, hat:0.7",
      pair: ["word", "weight"],
      hint: "1 changes nothing",
    },
  ],
  image: [
    { name: "image", label: "Start from", kind: "picture" },
    { name: "strength", label: "Strength", kind: "number", usual: "0.8; 1 with a mask", needs: "image" },
  ],
  mask: [{ name: "mask", label: "Only where this is bright", kind: "picture", needs: "image" }],
  adapters: [
    { name: "adapters", label: "Adapters", kind: "list", usual: example(card), pair: ["name", "scale"], hint: known(card) },
  ],
  controlnet: [
    { name: "control.name", label: "ControlNet", kind: "select", usual: [["", "none"], ...names(card, ["controlnet"])] },
    { name: "control.image", label: "It follows", kind: "picture", needs: "control.name", hint: "Its size is the image's" },
    { name: "control.scale", label: "How much", kind: "number", usual: 1, needs: "control.name" },
    { name: "control.start", label: "From (share of steps)", kind: "number", usual: 0, needs: "control.name" },
    { name: "control.end", label: "To (share of steps)", kind: "number", usual: 1, needs: "control.name" },
  ],
  "ip-adapter": [
    { name: "image_prompt.name", label: "Like a picture", kind: "select", usual: [["", "none"], ...names(card, ["ip-adapter"])] },
    { name: "image_prompt.image", label: "The picture", kind: "picture", needs: "image_prompt.name" },
    { name: "image_prompt.scale", label: "How much of it", kind: "number", usual: 1, needs: "image_prompt.name" },
  ],
  clip_skip: [
    { name: "clip_skip", label: "Skip layers of CLIP", kind: "number", usual: 0, hint: `At most ${card.max_clip_skip}` },
  ],
});
const LOADED = ["lora", "textual-inversion"];

/** Adapters of some kinds. @param {any} card @param {string[]} kinds @returns {string[]} */
function names(card, kinds) {
  return (card.adapters ?? [])
    .filter((/** @type {any} */ each) => kinds.includes(each.kind))
    .map((/** @type {any} */ each) => each.name);
}

/** How an adapter is written; a textual inversion has no scale. @param {any} card */
function example(card) {
  const [lora] = names(card, ["lora"]);
  return lora ? `${lora}:0.8` : names(card, LOADED)[0];
}

/** Which adapters there are, and how those are written that stand for a word. @param {any} card */
function known({ adapters = [] }) {
  const there = adapters.filter((/** @type {any} */ each) => LOADED.includes(each.kind));
  return there.map((/** @type {any} */ each) => each.name + (each.token ? ` (${each.token} in the prompt)` : "")).join(", ");
}

/** What a data set says of all its images, which have prompts and seeds of their own. */
const OF_ALL = "num_inference_steps guidance_scale width height scheduler negative_prompt adapters clip_skip".split(" ");

/**
 * Settings that fit the chosen model.
 * @param {any[]} models @param {any} again a request to fill in
 * @param {string} [place] where they are in the request, as problems name it: `generation.` of a data set
 */
export function settings(models, again, place = "") {
  const cardOf = (/** @type {string} */ name) => models.find((model) => model.name === name);
  const first = cardOf(again.model) ?? models.find((model) => model.default) ?? models[0];
  if (!first)
    return {
      element: h("p", { class: "hint" }, "No worker serves a model yet. One that starts takes up to a minute."),
      read: () => ({}),
    };
  const [plain, advanced] = [h("div", { class: "grid" }), h("div", {})];
  const summary = h("summary", {}, "Settings");
  const model = select(
    "model",
    models.map(({ name }) => name),
    first.name,
  );
  /** @type {() => any} */
  let read = () => ({});
  const show = (/** @type {any} */ card, /** @type {any} */ given) => {
    const can = [...(card.can ?? []), names(card, LOADED).length && "adapters"];
    const offered = (/** @type {Option} */ { name }) => !place || OF_ALL.includes(name);
    const [usual, others] = [
      basic(card).filter(offered),
      Object.entries(steering(card)).flatMap(([each, options]) => (can.includes(each) ? options.filter(offered) : [])),
    ];
    const [one, other] = [inputsOf(usual, given, place), inputsOf(others, given, place)];
    fill(plain, field(`${place}model`, "Model", model), one.elements);
    fill(
      advanced,
      others.length > 0 &&
        h("div", { class: "grid steering", role: "group", "aria-label": "What the image follows" }, other.elements),
      unfit(card),
    );
    read = () => ({ model: model.value, ...one.read(), ...other.read() });
    summary.textContent = models.length > 1 ? `Settings · ${card.name}` : "Settings";
  };
  model.addEventListener("change", () => show(cardOf(model.value) ?? first, read())); // what was set stays, where the model has it
  show(first, again);
  return { element: h("details", { open: Boolean(again.prompt) }, summary, plain, advanced), read: () => read() };
}

/** Adapters that are there and not for this model: why. @param {any} card */
function unfit({ name, other_adapters: others = {} }) {
  const reasons = Object.entries(others);
  return (
    reasons.length > 0 &&
    h(
      "details",
      {},
      h("summary", {}, `Adapters that ${name} cannot take`),
      h(
        "ul",
        { class: "hint" },
        reasons.map(([each, why]) => h("li", {}, `${each}: ${why}`)),
      ),
    )
  );
}
