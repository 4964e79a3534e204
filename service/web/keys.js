/** The API key: asked for when the service wants one, and kept for this tab alone. */
import { door, key, letIn } from "./api.js";
import { button, byId, fill, h } from "./dom.js";
import { blame, field, forgive, sentence } from "./fields.js";

/** @type {Promise<boolean> | null} One dialog for all requests that wait for it. */
let asking = null;

door.wanted = (problem) => (asking ??= asked(problem.message).finally(() => (asking = null)));

/** Ask for another key, then show everything anew. */
export async function askForKey() {
  if (await (asking ??= asked("").finally(() => (asking = null)))) location.reload();
}

/** @param {string} why @returns {Promise<boolean>} whether there is a new key */
function asked(why) {
  return new Promise((resolve) => {
    const given = h("input", {
      type: "password",
      name: "key",
      autocomplete: "off",
      required: true,
      spellcheck: "false",
      placeholder: "ovam_…",
    });
    const form = h("form", { novalidate: true, onsubmit: submit });
    const dialog = h(
      "dialog",
      { "aria-labelledby": "key-title", onclose: () => (dialog.remove(), resolve(dialog.returnValue === "yes")) },
      form,
    );
    const refused = key.get() ? sentence(why) : "";
    fill(
      form,
      h("h2", { id: "key-title" }, "API key"),
      h("p", {}, "This service lets people in by a key. It stays in this tab, until you close it."),
      field("Authorization", "Key", given),
      h(
        "div",
        { class: "row end" },
        key.get() && button("Forget it", () => (key.set(""), location.reload())),
        h("button", { class: "primary" }, "Let me in"),
      ),
    );
    /** @param {Event} event */
    async function submit(event) {
      event.preventDefault();
      forgive(form);
      const value = given.value.trim();
      try {
        await letIn(value);
        key.set(value);
        byId("key-button").hidden = false;
        dialog.close("yes");
      } catch (problem) {
        blame(form, problem);
      }
    }
    document.body.append(dialog);
    dialog.showModal();
    const error = form.querySelector(".error");
    if (refused && error) error.textContent = refused;
  });
}
