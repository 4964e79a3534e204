/** The page's beginning: which view the address names, and the key. */
import { key, offers } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { failure } from "./fields.js";
import { askForKey } from "./keys.js";

/**
 * @typedef {object} Place
 * @property {string} id of what is shown
 * @property {URLSearchParams} query
 * @property {AbortSignal} signal aborted when another view is shown
 * @property {(changes: Record<string, string>) => void} keep remember changes in the address, so that a reload finds the same
 * @typedef {(main: HTMLElement, place: Place) => Promise<void> | void} View
 */

/** @type {Record<string, () => Promise<View>>} */
const VIEWS = {
  "": async () => (await import("./home.js")).home,
  jobs: async () => (await import("./gallery.js")).jobs,
  job: async () => (await import("./job.js")).job,
  tokens: async () => (await import("./tokens.js")).tokens,
  datasets: async () => (await import("./datasets.js")).datasets,
  dataset: async () => (await import("./datasets.js")).dataset,
};

let shown = new AbortController();

/** Show what the address names. @param {boolean} moved whether the reader came from another view */
async function route(moved) {
  shown.abort();
  const controller = (shown = new AbortController());
  const [path, rest = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, id = ""] = path.split("/");
  const view = id ? name.replace(/s$/, "") : name;
  const main = byId("main");
  const query = new URLSearchParams(rest);
  /** @param {Record<string, string>} changes */
  const keep = (changes) => {
    for (const [each, value] of Object.entries(changes)) value ? query.set(each, value) : query.delete(each);
    if (controller === shown) history.replaceState(null, "", `#/${path}${query.size ? `?${query}` : ""}`);
  };
  for (const link of document.querySelectorAll("nav a"))
    link.getAttribute("href") === `#/${name}` ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  try {
    if (!Object.hasOwn(VIEWS, view)) throw new Error("There is no such page.");
    fill(main, h("p", { class: "waiting" }, "…"));
    if (moved) {
      scrollTo(0, 0);
      main.focus({ preventScroll: true }); // now: later it would take the focus from what the reader does
    }
    const show = await VIEWS[view]();
    if (controller.signal.aborted) return; // who came back meanwhile has the view already, and keeps it
    await show(main, { id, query, signal: controller.signal, keep });
  } catch (problem) {
    if (!controller.signal.aborted) failure(main, problem);
  }
}

addEventListener("hashchange", () => route(true));
addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof DOMException && event.reason.name === "AbortError") event.preventDefault(); // the view is gone
});
byId("key-button").hidden = !key.get();
byId("key-button").addEventListener("click", () => askForKey());
route(false);
addEventListener("load", () => setTimeout(() => VIEWS.job(), 1000)); // most readers go there next
offers("/v1/datasets").then((there) => (byId("datasets-link").hidden = !there));
