/** Labelled inputs, and problems as sentences at the input that caused them. */
import { Problem } from "./api.js";
import { announce, fill, h } from "./dom.js";

let count = 0;

/**
 * An input with its label, and a place for what is wrong with it.
 * @param {string} name the field in the request, as problems name it: `targets.0.word`
 * @param {string} label @param {HTMLElement} control @param {string} [hint]
 */
export function field(name, label, control, hint) {
  count += 1;
  const input = control.querySelector("input") ?? control; // it may stand beside a button
  input.id = `field-${count}`;
  input.setAttribute("aria-describedby", [hint && `${input.id}-hint`, `${input.id}-error`].filter(Boolean).join(" "));
  return h(
    "div",
    { class: "field", "data-field": name },
    h("label", { for: input.id }, label),
    control,
    hint && h("p", { class: "hint", id: `${input.id}-hint` }, hint),
    h("p", { class: "error", id: `${input.id}-error` }),
  );
}

/** A place for what is wrong with no field. */
export function alertPlace() {
  return h("p", { class: "error", role: "alert", "data-field": "" });
}

/** What people call what they do not fill in by its name, and what is said to programs alone. @type {[RegExp, string][]} */
const NAMES = [
  [/`?examples\.\d+\.(mask|masks)[\w.]*`?/g, "the mask"],
  [/`?targets\.(\d+)\.(word|prompt)`?/g, "the word"],
  [/`?targets\.(\d+)\.(token|class_name)`?/g, "the token"],
  [/; see (GET|POST) \S+/g, ""],
];

/** A sentence as people read it: their names of things, a capital, a full stop, no backticks. @param {string} text */
export function sentence(text) {
  const named = NAMES.reduce((said, [field, name]) => said.replace(field, name), text);
  const plain = named.replaceAll("`", "").trim();
  return plain.charAt(0).toUpperCase() + plain.slice(1) + (/[.!?]$/.test(plain) ? "" : ".");
}

/** Take all errors away. @param {Element} root */
export function forgive(root) {
  for (const error of root.querySelectorAll(".error")) error.textContent = "";
  for (const control of root.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
}

/** Show a problem at its fields, or where there is none for it. @param {Element} root @param {unknown} problem */
export function blame(root, problem) {
  if (!(problem instanceof Problem)) throw problem;
  forgive(root);
  const places = /** @type {HTMLElement[]} */ ([...root.querySelectorAll("[data-field]")]);
  const errors = problem.errors.length ? problem.errors : [{ field: "", detail: problem.message }];
  /** @type {HTMLElement | null} */
  let first = null;
  for (const error of errors) {
    const fitting = places.filter(
      ({ dataset: { field: name = "" } }) => !name || error.field === name || error.field.startsWith(`${name}.`),
    );
    const place = fitting.sort((one, other) => (other.dataset.field ?? "").length - (one.dataset.field ?? "").length)[0];
    const text = place?.matches(".error") ? place : place?.querySelector(".error");
    if (!place || !text) continue;
    text.textContent = [text.textContent, sentence(error.detail)].filter(Boolean).join(" ");
    const control = /** @type {HTMLElement | null} */ (place.querySelector("input, select, textarea"));
    control?.setAttribute("aria-invalid", "true");
    const folded = place.closest("details");
    if (folded) folded.open = true;
    first ??= control;
  }
  first?.focus();
  announce(errors.map((error) => sentence(error.detail)).join(" "));
}

/** A problem instead of a page. @param {Element} main @param {unknown} problem */
export function failure(main, problem) {
  const text = problem instanceof Error ? problem.message : String(problem);
  fill(
    main,
    h("div", { class: "notice", role: "alert" }, h("p", {}, sentence(text)), h("p", {}, h("a", { href: "#/" }, "Start again"))),
  );
}

/** A choice. @param {string} name @param {(string | [string, string])[]} options @param {string} [value] */
export function select(name, options, value) {
  const pairs = options.map((each) => (typeof each === "string" ? [each, each] : each));
  return h("select", { name }, ...pairs.map(([key, label]) => h("option", { value: key, selected: key === value }, label)));
}
