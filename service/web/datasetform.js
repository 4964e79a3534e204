/** A dataset, asked for in a small form: prompts, classes, how many, which to leave out. */
import { Problem, get, post } from "./api.js";
import { button, h } from "./dom.js";
import { alertPlace, blame, field, forgive } from "./fields.js";
import { settings } from "./settings.js";

const PLACE = "{class}";

/** @param {AbortSignal} signal @param {() => void} close @returns {Promise<HTMLElement>} */
export async function datasetForm(signal, close) {
  const { models } = await get("v1/models", { signal });
  const name = h("input", { name: "name", autocomplete: "off" });
  const classes = h("textarea", { rows: "4", placeholder: "cat\ndog = dog@1", spellcheck: "false" });
  const prompts = h("textarea", { rows: "4", placeholder: `a photograph of a ${PLACE}\na ${PLACE} on the grass` });
  const each = h("input", { type: "number", value: "10", min: "1", inputmode: "numeric" });
  const seed = h("input", { type: "number", placeholder: "0", inputmode: "numeric" });
  const generation = settings(models, {}, "generation.");
  const [small, same] = [
    check("area", "Leave out masks under 5 % and over 95 % of the image", true),
    check("duplicates", "Leave out duplicates", true),
  ];
  const sum = h("p", { class: "hint", role: "status" });
  const asked = field("prompts", "Prompts, one a line", prompts, `${PLACE} stands for each class in turn`);
  const form = h(
    "form",
    { class: "ask", novalidate: true },
    h("h2", {}, "New dataset"),
    field("name", "Name", name),
    field("classes", "Classes, one a line", classes, "A word, or a name and its learned token: dog = dog@1"),
    asked,
    h(
      "div",
      { class: "grid" },
      field("images_per_prompt", "Images of each prompt", each),
      field("seed", "First seed", seed),
    ),
    generation.element,
    small.element,
    same.element,
    alertPlace(),
    h("div", { class: "row" }, h("button", { class: "primary" }, "Make it"), button("Not now", close), sum),
  );
  const read = () => {
    const lines = linesOf(prompts.value);
    const templated = lines.some((line) => line.includes(PLACE));
    asked.dataset.field = templated ? "templates" : "prompts";
    return { classes: linesOf(classes.value), lines, templated };
  };
  form.addEventListener("input", () => {
    const { classes: wanted, lines, templated } = read();
    const count = lines.length * (templated ? wanted.length : 1) * (each.valueAsNumber || 0);
    sum.textContent = count ? `${count.toLocaleString()} images` : "";
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    forgive(form);
    try {
      const { classes: wanted, lines, templated } = read();
      const empty = [wanted.length ? "" : "classes", lines.length ? "" : "prompts"].filter(Boolean);
      if (empty.length)
        throw new Problem({ errors: empty.map((missing) => ({ field: missing, detail: `Write at least one line` })) });
      const without = templated ? lines.findIndex((line) => !line.includes(PLACE)) : -1;
      if (without >= 0)
        throw new Problem({
          errors: [{ field: "templates", detail: `Line ${without + 1} lacks ${PLACE}, which other lines have` }],
        });
      const { id } = await post("v1/datasets", {
        ...(name.value.trim() && { name: name.value.trim() }),
        classes: wanted.map(classOf),
        [templated ? "templates" : "prompts"]: lines,
        images_per_prompt: each.valueAsNumber || 1,
        ...(seed.value && { seed: seed.valueAsNumber }),
        generation: generation.read(),
        filters: {
          ...(small.input.checked && { area: { kind: "share", least: 0.05, most: 0.95 } }),
          ...(same.input.checked && { duplicates: "exact" }),
        },
      });
      location.hash = `#/datasets/${id}`;
    } catch (problem) {
      blame(form, problem);
    }
  });
  return form;
}

/** @param {string} text */
function linesOf(text) {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
}

/** A class as a line names it: `cat`, `dog = dog@1` (a token), or `auto = car` (a word). @param {string} line */
function classOf(line) {
  const [name, sought] = line.split("=").map((part) => part.trim());
  if (!sought) return { name };
  return { name, target: sought.includes("@") ? { token: sought } : { word: sought } };
}

/** @param {string} name @param {string} label @param {boolean} checked */
function check(name, label, checked) {
  const input = h("input", { type: "checkbox", name, checked, id: `check-${name}` });
  return {
    input,
    element: h(
      "div",
      { class: "check", "data-field": `filters.${name}` },
      input,
      h("label", { for: input.id }, label),
      h("p", { class: "error" }),
    ),
  };
}
