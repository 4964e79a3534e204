/** Jobs as pictures. A card loads its record and its picture when it comes into view. */
import { get, post, request } from "./api.js";
import { pictureOf } from "./compared.js";
import { ago, button, confirmed, fill, h, iconButton } from "./dom.js";
import { Curve } from "./curve.js";
import { isFinal } from "./events.js";
import { blame, alertPlace } from "./fields.js";

const KINDS = /** @type {const} */ ([
  ["", "All"],
  ["generate", "Images"],
  ["image", "Photographs"],
  ["attribute", "Masks"],
  ["probe", "Places"],
  ["optimize", "Learning"],
]);
/** @type {Record<string, string>} */
const NOUNS = {
  generate: "Image",
  image: "Photograph",
  attribute: "Masks",
  probe: "Place",
  optimize: "Learning",
  import: "Import",
};

/**
 * The newest images, generated or real.
 * @param {HTMLElement} place @param {AbortSignal} signal @returns {Promise<boolean>} whether there are any
 */
export async function recent(place, signal) {
  const pages = await Promise.all(["generate", "image"].map((kind) => get(`v1/jobs?limit=12&kind=${kind}`, { signal })));
  const found = pages.flatMap((page) => page.jobs).filter((job) => !["canceled", "expired"].includes(job.state));
  found.sort((one, other) => (one.created_at < other.created_at ? 1 : -1));
  if (!found.length) return false;
  fill(
    place,
    h("h2", {}, "Recent"),
    h(
      "ul",
      { class: "cards" },
      found.slice(0, 12).map((job) => card(job, signal)),
    ),
  );
  return true;
}

/** @type {import("./app.js").View} */
export async function jobs(main, { query, signal, keep }) {
  document.title = "Jobs · OVAM";
  const list = h("ul", { class: "cards" });
  const more = button("Show more", () => load(), { hidden: true });
  const empty = h("p", { class: "hint", hidden: true }, "Nothing here yet. ", h("a", { href: "#/" }, "Make an image"), ".");
  const wrong = alertPlace();
  let cursor = "";
  const load = async () => {
    const kind = query.get("kind");
    const page = await get(`v1/jobs?limit=24${kind ? `&kind=${kind}` : ""}${cursor ? `&cursor=${cursor}` : ""}`, {
      signal,
    }).catch((problem) => (blame(main, problem), null));
    if (!page) return;
    list.append(...page.jobs.map((/** @type {any} */ job) => card(job, signal)));
    cursor = page.next ?? "";
    more.hidden = !cursor;
    empty.hidden = list.childElementCount > 0 || Boolean(cursor);
  };
  const filters = KINDS.map(([kind, label]) =>
    button(
      label,
      () => {
        keep({ kind });
        for (const each of filters)
          each.setAttribute("aria-pressed", String(each === filters[KINDS.findIndex(([one]) => one === kind)]));
        cursor = "";
        list.replaceChildren();
        load();
      },
      { class: "chip", "aria-pressed": String((query.get("kind") ?? "") === kind) },
    ),
  );
  fill(
    main,
    h("h1", {}, "Jobs"),
    h("div", { class: "chips", role: "group", "aria-label": "Kind" }, filters),
    wrong,
    list,
    empty,
    more,
  );
  await load();
}

/** @param {any} job a summary @param {AbortSignal} signal */
function card(job, signal) {
  const picture = h("div", { class: "card-picture" });
  const title = h("span", { class: "card-title" }, NOUNS[job.kind]);
  const note = h("span", { class: "card-note" }, noteOf(job));
  const item = h(
    "li",
    { class: "card" },
    h("a", { href: `#/jobs/${job.id}` }, picture, title),
    note,
    iconButton(
      "close",
      "Delete",
      async () => {
        if (!(await confirmed(`Delete this job with its files? ${title.textContent}`, "Delete"))) return;
        await request("DELETE", `v1/jobs/${job.id}`).then(
          () => item.remove(),
          (problem) => (note.textContent = problem.message),
        );
      },
      { class: "icon-button card-delete" },
    ),
  );
  const observer = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting) return;
    observer.disconnect();
    complete(job, { picture, title, note, item }, signal).catch(() => {});
  });
  observer.observe(item);
  return item;
}

/** @param {any} job */
function noteOf({ state, progress, created_at: time }) {
  if (state === "running" && progress) return `${Math.round((100 * progress.done) / progress.total)} %`;
  return state === "succeeded" ? ago(time) : state;
}

/**
 * Fill in what the summary lacks.
 * @param {any} job @param {{picture: HTMLElement, title: HTMLElement, note: HTMLElement, item: HTMLElement}} parts
 * @param {AbortSignal} signal
 */
async function complete(job, parts, signal) {
  const record = await get(`v1/jobs/${job.id}`, { signal });
  parts.title.textContent = titleOf(record);
  parts.note.textContent = noteOf(record);
  const { result } = record;
  const file = result?.images?.[0].image ?? result?.segments?.[0].overlay;
  if (result?.losses) {
    const curve = new Curve();
    curve.set(result.losses);
    fill(parts.picture, curve.element);
  } else if (file) {
    fill(parts.picture, pictureOf(file, "", signal));
  } else if (record.error) {
    fill(parts.picture, h("p", {}, record.error.detail));
  } else if (result?.words) {
    fill(
      parts.picture,
      h(
        "p",
        {},
        result.words
          .slice(0, 3)
          .map((/** @type {any} */ each) => each.word)
          .join(", "),
      ),
    );
  }
  if (isFinal(record.state)) return;
  const stop = button("Cancel", () => post(`v1/jobs/${job.id}/cancel`, {}).catch(() => {}), { class: "card-cancel" });
  parts.item.append(stop);
  setTimeout(() => {
    stop.remove();
    if (!signal.aborted) complete(job, parts, signal).catch(() => {});
  }, 1500);
}

/** @param {any} record */
function titleOf({ kind, request, result }) {
  if (!request) return NOUNS[kind];
  if (kind === "generate" || kind === "image") return request.prompt || NOUNS[kind];
  if (kind === "attribute") return request.targets.map((/** @type {any} */ target) => target.label).join(", ");
  if (kind === "probe") return `At ${request.box[0]}, ${request.box[1]}`;
  return result?.token ?? request.name ?? NOUNS[kind];
}
