/** What an address `#/jobs/ID` shows: the image of the job, or that which it is about. */
import { address, get } from "./api.js";
import { button, fill, h } from "./dom.js";
import { isFinal } from "./events.js";
import { sentence } from "./fields.js";
import { progress } from "./progress.js";
import { changed } from "./submitting.js";
import { workspace } from "./workspace.js";

/** @type {Record<string, string>} Why a job without an error has no images. */
const ENDS = {
  canceled: "You canceled it",
  expired: "Its time is over: its images are deleted",
  succeeded: "No image passed its gate",
};

/** @type {import("./app.js").View} */
export async function job(main, place) {
  const record = await get(`v1/jobs/${place.id}`, { signal: place.signal });
  const about = elsewhere(record);
  if (about) {
    location.replace(about);
    return;
  }
  const ended = isFinal(record.state) ? record : await progress(main, record, place.signal);
  document.title = `${record.request?.prompt || "Photograph"} · OVAM`;
  if (ended.result?.images?.length) await workspace(main, place, ended);
  else unsuccessful(main, ended);
}

/** The address of what a job is about, if it has no images of its own. @param {any} record */
function elsewhere({ id, kind, request, result }) {
  if (kind === "import") return "#/tokens";
  if (kind === "attribute")
    return `#/jobs/${request.job_id}?image=${request.image}&found=${[...request.targets.keys()].map((at) => `${id}-${at}`).join(".")}`;
  if (kind === "probe") return `#/jobs/${request.job_id}?image=${request.image}&probe=${id}`;
  if (kind === "optimize" && request)
    return `#/jobs/${request.examples[0].job_id}?image=${request.examples[0].image}&learn=${id}`;
  return result?.token ? "#/tokens" : ""; // a request with large masks is not in the record
}

/** A job that gave nothing: why, and what can be done. @param {HTMLElement} main @param {any} record */
function unsuccessful(main, record) {
  const why = record.error?.detail ?? ENDS[record.state] ?? record.state;
  const again = record.kind === "generate" && record.request;
  fill(
    main,
    h(
      "div",
      { class: "notice" },
      h("h1", {}, record.request?.prompt || "No images"),
      h("p", { role: "alert" }, sentence(why)),
      again && button("Change it and try again", () => changed(record, { seed: record.request.seed }), { class: "primary" }),
      h("p", { class: "hint" }, h("a", { href: address(`v1/jobs/${record.id}`) }, "The job's record")),
    ),
  );
}
