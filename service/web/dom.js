/** Elements, in few words. Text only ever becomes text: nothing here reads HTML. */

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, unknown>} Attributes */

/** @type {Record<string, string>} The strokes of the icons, on 24 x 24. */
const ICONS = {
  eye: "M2 12s3.6-6.5 10-6.5S22 12 22 12s-3.6 6.5-10 6.5S2 12 2 12zM12 9.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6",
  hidden:
    "M4 4l16 16M9.5 5.9A10 10 0 0 1 12 5.5C18.4 5.5 22 12 22 12a18 18 0 0 1-3 3.7M6 7.6A18 18 0 0 0 2 12s3.6 6.5 10 6.5a10 10 0 0 0 4-.8",
  close: "M6 6l12 12M18 6L6 18",
  brush: "M4 20c2.5 0 5-.6 5-3.2a2.6 2.6 0 0 0-5 0c0 1.6-.6 2.4-2 3.200M9.5 14.500L20 4M11.5 16.500L21 6",
  undo: "M8 5L4 9l4 4M4 9h10a5.5 5.5 0 0 1 0 11H9",
  redo: "M16 5l4 4-4 4M20 9H10a5.5 5.5 0 0 0 0 11h5",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 2.5-2.500L20 17M15 9h.01",
  again: "M20 11a8 8 0 1 0-2.3 6.300M20 5v6h-6",
};

/**
 * Make an element. Functions become listeners (`onclick`), `true` an empty attribute, properties of inputs are set as such.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (["value", "checked", "disabled", "hidden", "selected", "open"].includes(name)) Reflect.set(element, name, value);
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, value === true ? "" : String(value));
  }
  fill(element, ...children);
  return element;
}

/** Replace an element's content. @param {Element} element @param {...(Child | Child[])} children */
export function fill(element, ...children) {
  const kept = children.flat().filter((child) => child !== null && child !== undefined && child !== false);
  element.replaceChildren(...kept.map((child) => (child instanceof Node ? child : String(child))));
}

/** An icon. What it means is said by the button around it. @param {string} name */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", "aria-hidden": "true", class: "icon" }))
    svg.setAttribute(key, value);
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * A button. @param {string | Child[]} content @param {(event: MouseEvent) => unknown} onclick @param {Attributes} [attributes]
 */
export function button(content, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, ...(typeof content === "string" ? [content] : content));
}

/**
 * A button that shows an icon and says its name.
 * @param {string} name @param {string} label @param {() => unknown} onclick @param {Attributes} [more]
 */
export function iconButton(name, label, onclick, more = {}) {
  return button([icon(name)], onclick, { class: "icon-button", "aria-label": label, title: label, ...more });
}

/** Say something to screen readers. @param {string} text */
export function announce(text) {
  const status = byId("status");
  status.textContent = "";
  requestAnimationFrame(() => (status.textContent = text));
}

/** The element of an id that is there. @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element #${id}`);
  return found;
}

/** Save bytes as a file. @param {Blob} blob @param {string} name */
export function save(blob, name) {
  const href = URL.createObjectURL(blob);
  h("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

/** Ask before something is gone. @param {string} question @param {string} action @returns {Promise<boolean>} */
export function confirmed(question, action) {
  return new Promise((resolve) => {
    const dialog = h("dialog", {
      "aria-label": question,
      onclose: () => (dialog.remove(), resolve(dialog.returnValue === "yes")),
    });
    fill(
      dialog,
      h("p", {}, question),
      h(
        "div",
        { class: "row end" },
        button("Keep", () => dialog.close("no")),
        button(action, () => dialog.close("yes"), { class: "danger" }),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** The part of a text that makes a name: lower case, words joined by hyphens. @param {string} text */
export function slug(text) {
  return (
    text
      .toLowerCase()
      .normalize("NFKD")
      .replace(/[^a-z0-9]+/g, "-")
      .replace(/^-+|-+$/g, "")
      .slice(0, 60) || "mask"
  );
}

/** How long ago something was, in words. @param {string} time */
export function ago(time) {
  const minutes = Math.round((Date.now() - Date.parse(time)) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  return minutes < 1440 ? `${Math.round(minutes / 60)} h ago` : new Date(time).toLocaleDateString();
}
