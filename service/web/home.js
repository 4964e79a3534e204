/** The beginning: describe an image, or take a photograph. */
import { Problem, get } from "./api.js";
import { button, fill, h, icon } from "./dom.js";
import { alertPlace, blame, field, forgive } from "./fields.js";
import { recent } from "./gallery.js";
import { fileInput } from "./options.js";
import { settings } from "./settings.js";
import { drawn, next, taken } from "./submitting.js";

const EXAMPLES = [
  "a photograph of a cat wearing a hat",
  "a photograph of a red car on the grass",
  "a photograph of a turtle and a dog",
];

/** @type {import("./app.js").View} */
export async function home(main, { query, signal }) {
  document.title = "OVAM";
  const again = next.request;
  next.request = {};
  /** @type {() => any} */
  let chosen = () => ({});
  const sought = query.get("find"); // a token to try
  const prompt = h("textarea", {
    name: "prompt",
    rows: "2",
    placeholder: EXAMPLES[0],
    value: again.prompt ?? "",
    spellcheck: "true",
  });
  const file = fileInput("A photograph", (photo) => take(photo, chosen().model));
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
    submit(async () => {
      if (!prompt.value.trim()) throw new Problem({ errors: [{ field: "prompt", detail: "Say what should be in the image" }] });
      return drawn({ prompt: prompt.value, ...chosen() });
    });
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    form.requestSubmit();
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
  const { element, read } = settings((await get("v1/models", { signal })).models, again);
  chosen = read;
  fill(choices, element);
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
