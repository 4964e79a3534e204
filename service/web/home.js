/** The beginning: describe an image, or take a photograph. */
import { Problem, get } from "./api.js";
import { button, fill, h, icon } from "./dom.js";
import { alertPlace, blame, field, forgive, select, values } from "./fields.js";
import { recent } from "./gallery.js";
import { drawn, taken } from "./submitting.js";

const EXAMPLES = [
  "a photograph of a cat wearing a hat",
  "a photograph of a red car on the grass",
  "a photograph of a turtle and a dog",
];

/** @type {import("./app.js").View} */
export async function home(main, { query, signal }) {
  document.title = "OVAM";
  const again = JSON.parse(sessionStorage.getItem("ovam-again") ?? "{}");
  sessionStorage.removeItem("ovam-again");
  const sought = query.get("find"); // a token to try
  const prompt = h("textarea", {
    name: "prompt",
    rows: "2",
    placeholder: EXAMPLES[0],
    value: again.prompt ?? "",
    spellcheck: "true",
  });
  const file = h("input", {
    type: "file",
    accept: "image/png,image/jpeg,image/webp",
    class: "unseen",
    tabindex: "-1",
    "aria-label": "A photograph",
  });
  const go = h("button", { class: "primary" }, "Generate");
  const photograph = button([icon("image"), "Use a photograph"], () => file.click());
  const choices = h("div", {}); // filled in when the models are known
  const form = h(
    "form",
    { class: "ask", novalidate: true },
    h("h1", {}, sought ? `In which image should ${sought} be found?` : "What should be in the image?"),
    field("prompt", "Prompt", prompt),
    choices,
    alertPlace(),
    h("div", { class: "row" }, go, photograph, file),
  );
  const place = h("section", { class: "recent" });
  /** @param {() => Promise<any>} submitted */
  const submit = async (submitted) => {
    forgive(form);
    go.disabled = photograph.disabled = true;
    try {
      const { id } = await submitted();
      location.hash = `#/jobs/${id}${sought ? `?find=${encodeURIComponent(sought)}` : ""}`;
    } catch (problem) {
      blame(form, problem);
    } finally {
      go.disabled = photograph.disabled = false;
    }
  };
  /** What is wrong with a photograph is said of no field. @param {File} photo @param {string} [model] */
  const take = (photo, model) =>
    submit(() => taken(photo, model).catch((problem) => Promise.reject(Object.assign(problem, { errors: [] }))));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(() => generated(form));
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    form.requestSubmit();
  });
  file.addEventListener("change", () => {
    const [chosen] = file.files ?? [];
    const model = form.querySelector("select[name=model]");
    if (chosen) take(chosen, model instanceof HTMLSelectElement ? model.value : undefined);
    file.value = "";
  });
  main.addEventListener("dragover", (event) => event.preventDefault(), { signal });
  main.addEventListener(
    "drop",
    (event) => {
      event.preventDefault();
      const [dropped] = event.dataTransfer?.files ?? [];
      if (dropped) take(dropped);
    },
    { signal },
  );
  fill(main, form, place);
  if (!again.prompt) prompt.focus({ preventScroll: true });
  fill(choices, settings((await get("v1/models", { signal })).models, again));
  const some = await recent(place, signal);
  if (!some)
    fill(
      place,
      h("p", { class: "hint" }, "Try one of these:"),
      h(
        "div",
        { class: "chips" },
        EXAMPLES.map((text) => button(text, () => ((prompt.value = text), prompt.focus()), { class: "chip" })),
      ),
    );
}

/** What may be left as it is. @param {any[]} models @param {any} again a request to fill in */
function settings(models, again) {
  const first = models.find((model) => model.name === again.model) ?? models.find((model) => model.default) ?? models[0];
  if (!first) return h("p", { class: "hint" }, "No worker serves a model yet. One that starts takes up to a minute.");
  const names = models.map((model) => model.name);
  const number = (/** @type {string} */ name, /** @type {string | number} */ usual, more = {}) =>
    h("input", {
      type: "number",
      name,
      placeholder: String(usual),
      inputmode: "decimal",
      value: again[name] ?? "",
      step: "any",
      ...more,
    });
  const place = h("div", { class: "grid" });
  const summary = h("summary", {}, "Settings");
  const model = select("model", names, first.name);
  const show = () => {
    const card = models.find((each) => each.name === model.value) ?? first;
    fill(
      place,
      field("model", "Model", model),
      field("seed", "Seed", number("seed", "random")),
      field("num_images", "Images", number("num_images", 1)),
      field("num_inference_steps", "Steps", number("num_inference_steps", 30)),
      field("guidance_scale", "Guidance", number("guidance_scale", card.default_guidance_scale)),
      field("width", "Width", number("width", card.default_width)),
      field("height", "Height", number("height", card.default_height)),
      field("scheduler", "Scheduler", select("scheduler", [["", "the model's own"], ...card.schedulers], again.scheduler)),
      ...("negative_prompt" in (card.cannot ?? {})
        ? []
        : [field("negative_prompt", "Not in the image", h("input", { name: "negative_prompt", value: again.negative_prompt ?? "" }))]),
      ...steering(card, again, number),
    );
    summary.textContent = names.length > 1 ? `Settings · ${card.name}` : "Settings";
  };
  model.addEventListener("change", show);
  show();
  return h("details", {}, summary, place);
}

/** What a model can be steered by, beside words. @param {any} card @param {any} again @param {(name: string, usual: number) => HTMLElement} number */
function steering(card, again, number) {
  const names = (card.adapters ?? [])
    .filter((/** @type {any} */ each) => ["lora", "textual-inversion"].includes(each.kind))
    .map((/** @type {any} */ each) => each.name);
  const text = (/** @type {string} */ name, /** @type {string} */ placeholder, /** @type {string} */ value) =>
    h("input", { name, placeholder, value });
  const used = (again.adapters ?? []).map((/** @type {any} */ each) => `${each.name}:${each.scale}`).join(", ");
  return [
    ...((card.can ?? []).includes("image")
      ? [
          field("image", "Start from", text("image", "a job's id", again.image?.job_id ?? "")),
          field("strength", "Strength", number("strength", 0.8)),
        ]
      : []),
    ...(names.length ? [field("adapters", "Adapters", text("adapters", `${names[0]}:0.8`, used))] : []),
  ];
}

/** @param {HTMLFormElement} form */
async function generated(form) {
  const request = values(form);
  if (!request.prompt) throw new Problem({ errors: [{ field: "prompt", detail: "Say what should be in the image" }] });
  return drawn(request);
}
