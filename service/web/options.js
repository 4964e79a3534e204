/** What of a request may be left as it is: tables of options, the inputs that they become, and the request that these say. */
import { button, h, icon } from "./dom.js";
import { field, select } from "./fields.js";

/**
 * An option as data. What it is named, `control.scale` for example, is its path in the request, and in problems.
 * @typedef {object} Option
 * @property {string} name @property {string} label
 * @property {"number" | "text" | "select" | "check" | "picture" | "list"} kind
 * @property {string | number | (string | [string, string])[] | null} [usual] what stands in an empty input; of a select its choices
 * @property {string} [needs] the option without which it has no effect: it is hidden until that is chosen
 * @property {unknown} [value] what a checked box says
 * @property {[string, string]} [pair] of a list: how the parts of `red car:1.5` are called
 * @property {string} [hint]
 */

/** Pictures that were chosen, by the input that shows their name. @type {WeakMap<HTMLInputElement, unknown>} */
const pictures = new WeakMap();

/**
 * Make inputs. What a model cannot do is left out of the table by whoever writes it.
 * @param {Option[]} options @param {any} given a request to fill in @param {string} [place] before their names, in problems
 * @returns {{elements: HTMLElement[], read: () => Record<string, any>}} the inputs, and what they say as a request
 */
export function inputsOf(options, given = {}, place = "") {
  const rows = options.map((option) => {
    const at = option.name.split(".").reduce((part, key) => part?.[key], given);
    const control = controlOf(option, at);
    const element =
      option.kind === "check"
        ? h(
            "div",
            { class: "check field", "data-field": place + option.name },
            h("label", {}, control, option.label),
            h("p", { class: "error" }),
          )
        : field(place + option.name, option.label, control, option.hint);
    return { ...option, element, input: /** @type {HTMLInputElement} */ (control.querySelector("input") ?? control) };
  });
  const update = () => {
    for (const { needs, element } of rows) {
      const needed = needs && rows.find(({ name }) => name === needs);
      element.hidden = Boolean(needs) && !(needed && !needed.element.hidden && said(needed));
    }
  };
  for (const { element } of rows) element.addEventListener("input", update);
  update();
  const read = () => {
    /** @type {Record<string, any>} */
    const request = {};
    for (const row of rows) {
      const value = row.element.hidden ? undefined : said(row);
      if (value === undefined) continue;
      const [key = "", ...path] = row.name.split(".").reverse();
      path.reduceRight((part, each) => (part[each] ??= {}), request)[key] = value;
    }
    return request;
  };
  return { elements: rows.map(({ element }) => element), read };
}

/** @param {Option} option @param {any} given @returns {HTMLElement} */
function controlOf({ kind, name, label, usual, pair }, given) {
  if (kind === "select") return select(name, Array.isArray(usual) ? usual : [], given ?? "");
  if (kind === "check") return h("input", { type: "checkbox", checked: given != null });
  if (kind === "picture") return picture(label, given);
  const shown = pair && given ? given.map((/** @type {any} */ each) => written(each, pair)).join(", ") : given;
  const number = kind === "number" && { type: "number", step: "any", inputmode: "decimal" };
  return h("input", { name, value: shown ?? "", placeholder: usual ?? "", autocomplete: "off", ...number });
}

/** What an input says, if it says anything. @param {Option & {input: HTMLInputElement}} row @returns {any} */
function said({ kind, input, value, pair }) {
  const text = input.value.trim();
  if (kind === "check") return input.checked ? (value ?? true) : undefined;
  if (!text) return undefined;
  if (kind === "number") return input.valueAsNumber;
  if (kind === "picture") return pictures.get(input) ?? imageOf(text);
  return pair ? text.split(",").map((each) => parsed(each.trim(), pair)) : text;
}

/** A picture: a file, or an image of a job. @param {string} label @param {any} given */
function picture(label, given) {
  const job = given?.job_id && `${given.job_id}${given.image ? `:${given.image}` : ""}`;
  const name = h("input", {
    placeholder: "a file, or a job's id",
    value: job ?? given?.name ?? (given?.counts ? "the layer's mask" : given ? "the same as before" : ""),
    autocomplete: "off",
  });
  if (given) pictures.set(name, given);
  name.addEventListener("input", () => pictures.delete(name));
  const file = fileInput(`${label}: a file`, (chosen) => {
    name.value = chosen.name;
    name.dispatchEvent(new Event("input", { bubbles: true })); // first: what is typed takes the place of a file
    pictures.set(name, chosen);
  });
  return h(
    "div",
    { class: "joined" },
    name,
    button([icon("image")], () => file.click(), { "aria-label": `Choose a file: ${label}` }),
    file,
  );
}

/** An unseen input, which a button opens. @param {string} label @param {(file: File) => unknown} take */
export function fileInput(label, take) {
  const input = h("input", {
    type: "file",
    accept: "image/png,image/jpeg,image/webp",
    class: "unseen",
    tabindex: "-1",
    "aria-label": label,
    onchange: () => {
      const [chosen] = input.files ?? [];
      if (chosen) take(chosen);
      input.value = "";
    },
  });
  return input;
}

/** An image of a job, from `ID` or `ID:1`. @param {string} text */
export function imageOf(text) {
  const [id = "", number] = text.split(":");
  return { job_id: id.trim(), image: Number(number ?? 0) };
}

/** `red car:1.5`, or with its occurrence `car#0:1.5`, as an object. @param {string} text @param {[string, string]} pair */
function parsed(text, [key, number]) {
  const [, name, occurrence, value] = text.match(/^(.*?)(?:#(\d+))?(?::\s*([-+.\d]+))?$/) ?? [];
  return { [key]: name, ...(value && { [number]: Number(value) }), ...(occurrence && { occurrence: Number(occurrence) }) };
}

/** The same backwards. @param {any} each @param {[string, string]} pair */
function written(each, [key, number]) {
  return `${each[key]}${each.occurrence == null ? "" : `#${each.occurrence}`}:${each[number]}`;
}
