/** Datasets, where the service makes them. */
import { fill, h } from "./dom.js";

/** @type {import("./app.js").View} */
export async function datasets(main) {
  fill(main, h("h1", {}, "Datasets"));
}

/** @type {import("./app.js").View} */
export async function dataset(main, { id }) {
  fill(main, h("h1", {}, id));
}
