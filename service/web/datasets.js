/** Datasets, where the service makes them: a list, a small form, and how far each is. */
import { get, key, offers, post, request } from "./api.js";
import { ago, button, confirmed, fill, h, save } from "./dom.js";
import { follow, isFinal } from "./events.js";
import { alertPlace, blame, failure, select } from "./fields.js";
import { datasetForm } from "./datasetform.js";

const FORMATS = /** @type {[string, string][]} */ ([
  ["coco", "COCO"],
  ["voc", "Pascal VOC"],
  ["yolo", "YOLO"],
  ["labelme", "labelme"],
  ["webdataset", "WebDataset"],
  ["huggingface", "Hugging Face"],
]);

/** @type {import("./app.js").View} */
export async function datasets(main, { signal }) {
  document.title = "Datasets · OVAM";
  if (!(await offers("/v1/datasets"))) return failure(main, new Error("This service makes no datasets."));
  const list = h("ul", { class: "rows" });
  const more = button("Show more", () => load(), { hidden: true });
  let cursor = "";
  const load = async () => {
    const page = await get(`v1/datasets?limit=50${cursor && `&cursor=${cursor}`}`, { signal });
    list.append(
      ...page.datasets.map((/** @type {any} */ each) =>
        h(
          "li",
          {},
          h(
            "div",
            { class: "row" },
            h("a", { href: `#/datasets/${each.id}` }, each.name ?? each.id),
            h("small", {}, ago(each.created_at)),
          ),
          counts(each),
        ),
      ),
    );
    if (!list.childElementCount)
      fill(
        list,
        h("li", { class: "hint" }, "No datasets yet. One is made of prompts, and of the classes to find in their images."),
      );
    cursor = page.next ?? "";
    more.hidden = !cursor;
  };
  const place = h("section", { "aria-label": "New dataset" });
  const fresh = button("New dataset", async () => fill(place, await datasetForm(signal, () => fill(place))), {
    class: "primary",
  });
  fill(main, h("div", { class: "row" }, h("h1", {}, "Datasets"), h("div", { class: "spacer" }), fresh), place, list, more);
  await load();
}

/** @type {import("./app.js").View} */
export async function dataset(main, { id, signal }) {
  const path = `v1/datasets/${id}`;
  const bar = h("progress", { max: "1", "aria-label": "Progress" });
  const place = h("div", {});
  const tools = h("div", { class: "row" });
  const wrong = alertPlace();
  const title = h("h1", {});
  const format = select("format", FORMATS);
  format.setAttribute("aria-label", "Format");
  const take = button(
    "Download",
    () => download(`${path}/export?format=${format.value}`, `${id}-${format.value}.tar`).catch((problem) => blame(main, problem)),
    { class: "primary" },
  );
  const remove = button(
    "Delete",
    async () => {
      if (await confirmed("Delete this dataset with its images and masks?", "Delete"))
        await request("DELETE", path).then(
          () => (location.hash = "#/datasets"),
          (problem) => blame(main, problem),
        );
    },
    { class: "danger" },
  );
  /** @param {any} record */
  const show = (record) => {
    document.title = `${record.name ?? "Dataset"} · OVAM`;
    title.textContent = record.name ?? record.id;
    bar.value = record.counts.done / Math.max(1, record.counts.entries);
    fill(
      place,
      counts(record),
      (record.error ?? record.waits) && h("p", { class: "hint" }, (record.error ?? record.waits).detail),
    );
    const { state } = record;
    const turn = (/** @type {string} */ verb, /** @type {string} */ label) =>
      button(label, () => post(`${path}/${verb}`, {}).then(watched, (problem) => blame(main, problem)));
    fill(
      tools,
      ["queued", "running"].includes(state) && turn("pause", "Pause"),
      ["paused", "failed"].includes(state) && turn("resume", "Go on"),
      !isFinal(state) && turn("cancel", "Cancel"),
      remove,
    );
  };
  let watching = false;
  /** Show a record, and how it goes on. @param {any} now */
  const watched = async (now) => {
    show(now);
    if (watching || isFinal(now.state)) return;
    watching = true;
    watch(path, show, signal)
      .catch((problem) => signal.aborted || blame(main, problem))
      .finally(() => (watching = false));
  };
  const record = await get(path, { signal });
  const { request: asked } = record;
  fill(
    main,
    h("p", {}, h("a", { href: "#/datasets" }, "Datasets")),
    title,
    h(
      "p",
      { class: "hint" },
      [
        asked.classes.map((/** @type {any} */ each) => each.name).join(", "),
        `${asked.prompts} prompts`,
        ago(record.created_at),
      ].join(" · "),
    ),
    h("div", { class: "meter" }, bar, place),
    h("div", { class: "row take" }, format, take),
    tools,
    wrong,
  );
  await watched(record);
}

/** @param {string} path @param {(record: any) => void} show @param {AbortSignal} signal */
async function watch(path, show, signal) {
  let shown = 0;
  for await (const { data } of follow(path, signal)) {
    if (performance.now() - shown < 900 && !isFinal(data.state)) continue;
    shown = performance.now();
    show(await get(path, { signal }));
  }
  show(await get(path, { signal }));
}

/** How far a dataset is, in numbers. @param {any} record */
function counts({ state, counts: { entries, done, accepted, failed, rejected } }) {
  const why = Object.entries(rejected ?? {})
    .filter(([, count]) => count)
    .map(([reason, count]) => `${count} rejected: ${reason}`);
  return h(
    "p",
    { class: "counts" },
    [state, `${done} of ${entries} images`, `${accepted} accepted`, ...why, failed ? `${failed} failed` : ""]
      .filter(Boolean)
      .map((each) => h("span", {}, each)),
  );
}

/**
 * Save a large file: by the browser itself where no key is needed, else piece by piece where the browser lets us.
 * @param {string} path @param {string} name
 */
async function download(path, name) {
  if (!key.get()) return h("a", { href: path, download: name }).click();
  const picker = /** @type {any} */ (globalThis).showSaveFilePicker;
  const handle = picker && (await picker({ suggestedName: name }));
  const answer = await request("GET", path);
  if (handle && answer.body) return answer.body.pipeTo(await handle.createWritable());
  save(await answer.blob(), name);
}
