/** One image: its layers, its places, its masks, and what is learned from them. */
import { blob, get, request } from "./api.js";
import { button, confirmed, fill, h } from "./dom.js";
import { alertPlace, blame } from "./fields.js";
import { downloads } from "./downloads.js";
import { finder } from "./find.js";
import { layerList } from "./layerlist.js";
import { learning } from "./learn.js";
import { painting } from "./painting.js";
import { point } from "./pointing.js";
import { probing } from "./probe.js";
import { Stage } from "./stage.js";
import { changed, drawnAnew } from "./submitting.js";
import { pictureOf } from "./compared.js";

/**
 * What the parts of the workspace share.
 * @typedef {object} Desk
 * @property {any} record of the image's job
 * @property {number} image which of its images
 * @property {any} card of its model; empty if no worker serves that any more
 * @property {Stage} stage
 * @property {import("./app.js").Place} place
 * @property {AbortSignal} signal
 * @property {(layer: import("./layers.js").Layer) => void} add show a new layer
 * @property {(layer: import("./layers.js").Layer) => void} remove
 * @property {(words: string[]) => Promise<void>} find look for words
 * @property {(targets: any[]) => Promise<void>} seek look for targets
 * @property {(layer: import("./layers.js").Layer) => void} edit paint on a layer's mask
 * @property {(layer: import("./layers.js").Layer) => void} learn
 * @property {import("./pointing.js").Hands} hands
 */

/** @param {HTMLElement} main @param {import("./app.js").Place} place @param {any} record */
export async function workspace(main, place, record) {
  const { result, request: asked } = record;
  const image = Math.max(0, Math.min(result.images.length - 1, Number(place.query.get("image")) || 0));
  const stage = new Stage(
    result.width,
    result.height,
    `The image: ${asked?.prompt || "a photograph"}. Enter asks what is at the cursor.`,
  );
  place.signal.addEventListener("abort", () => stage.resizing.disconnect());
  const { models } = await get("v1/models", { signal: place.signal }).catch(() => ({ models: [] }));
  const card = models.find((/** @type {any} */ each) => each.name === result.model) ?? {};
  const desk = /** @type {Desk} */ ({ record, image, card, stage, place, signal: place.signal });
  const list = layerList(desk);
  const probe = probing(desk);
  const find = finder(desk, list);
  const learn = learning(desk);
  const brush = painting(desk, list);
  desk.hands = { brush: null, ask: probe.ask, painted: brush.painted, left: brush.close, turn: brush.turn };
  Object.assign(desk, {
    add: list.add,
    remove: list.remove,
    find: find.words,
    seek: find.targets,
    edit: brush.open,
    learn: learn.open,
  });
  fill(
    main,
    h(
      "div",
      { class: "workspace" },
      h(
        "section",
        { class: "picture", "aria-label": "Picture" },
        h("div", { class: "frame" }, stage.element, probe.element),
        brush.element,
        h("p", { class: "hint", id: "stage-keys" }, "Click a place, or draw a box, to ask which words are there."),
        result.images.length > 1 && thumbnails(desk),
      ),
      h(
        "aside",
        { class: "panel" },
        heading(main, desk),
        find.element,
        list.element,
        learn.element,
        downloads(desk),
        removal(main, desk),
      ),
    ),
  );
  point(stage, desk.hands);
  stage.image = await createImageBitmap(await blob(result.images[image].image, place.signal));
  stage.fit();
  await Promise.all([find.recall(), probe.recall(), learn.recall()]);
}

/** What the image is, and what can be done with it as a whole. @param {HTMLElement} main @param {Desk} desk */
function heading(main, { record, image, card }) {
  const { request: asked, result } = record;
  const facts = [
    result.model,
    `${result.width} × ${result.height}`,
    record.kind === "generate" && `seed ${result.images[image].seed}`,
  ]
    .filter(Boolean)
    .join(" · ");
  const wrong = alertPlace();
  const again = () =>
    drawnAnew(record).then(
      ({ id }) => (location.hash = `#/jobs/${id}`),
      (problem) => blame(main, problem),
    );
  return h(
    "div",
    { class: "heading" },
    h("h1", {}, asked?.prompt || "Photograph"),
    h(
      "div",
      { class: "row" },
      h("p", { class: "hint" }, facts),
      record.kind === "generate" &&
        asked && [
          button("Another seed", again, { class: "link" }),
          button("Change it", () => changed(record), { class: "link" }),
        ],
      card.can?.includes("image") &&
        button("Start from it", () => changed(record, { image: { job_id: record.id, image }, mask: null, strength: null }), {
          class: "link",
        }),
    ),
    wrong,
  );
}

/** The end of an image. @param {HTMLElement} main @param {Desk} desk */
function removal(main, { record, place }) {
  const many = record.result.images.length > 1;
  const what = many ? "these images" : "this image";
  return button(
    `Delete ${what}`,
    async () => {
      if (!(await confirmed(`Delete ${what} and what is kept of ${many ? "them" : "it"}?`, "Delete"))) return;
      await request("DELETE", `v1/jobs/${place.id}`).then(
        () => (location.hash = "#/jobs"),
        (problem) => blame(main, problem),
      );
    },
    { class: "link danger" },
  );
}

/** The other images of the job. @param {Desk} desk */
function thumbnails({ record, image, signal }) {
  return h(
    "ul",
    { class: "thumbnails", "aria-label": "Images" },
    record.result.images.map((/** @type {any} */ each, /** @type {number} */ number) => {
      const picture = pictureOf(each.image, `Image ${number + 1}, seed ${each.seed}`, signal);
      return h(
        "li",
        {},
        h("a", { href: `#/jobs/${record.id}?image=${number}`, "aria-current": number === image && "true" }, picture),
      );
    }),
  );
}
