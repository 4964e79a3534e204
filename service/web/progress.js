/** A job that waits or runs: how far it is, the picture as it forms, and a way to stop it. */
import { get, post } from "./api.js";
import { announce, button, fill, h } from "./dom.js";
import { finished } from "./events.js";
import { blame, alertPlace } from "./fields.js";
import { Forming } from "./forming.js";

/**
 * Show a job until it has ended.
 * @param {HTMLElement} main @param {any} record @param {AbortSignal} signal
 * @returns {Promise<any>} its record, whatever became of it
 */
export async function progress(main, record, signal) {
  const request = record.request ?? {};
  const meter = new Meter(record);
  const forming = new Forming(request.width ?? 1, request.height ?? 1);
  const wrong = alertPlace();
  const stop = button("Cancel", async () => {
    stop.disabled = true;
    meter.say("Stopping …");
    await post(`v1/jobs/${record.id}/cancel`, {}).catch((problem) => problem.code !== "job-finished" && blame(main, problem));
  });
  fill(
    main,
    h(
      "div",
      { class: "workspace" },
      h("section", { class: "picture", "aria-label": "Picture" }, forming.element),
      h(
        "aside",
        { class: "panel" },
        h("h1", {}, request.prompt || "Your photograph"),
        meter.element,
        forming.legend,
        h("div", { class: "row" }, stop),
        wrong,
      ),
    ),
  );
  announce("Waiting for a worker");
  try {
    return await finished(record, signal, ({ data }) => {
      meter.show(data);
      forming.show(data);
    });
  } catch (problem) {
    if (signal.aborted) throw problem;
    return get(`v1/jobs/${record.id}`, { signal });
  }
}

/** A bar with words beside it. */
export class Meter {
  /** @param {any} record */
  constructor(record) {
    this.bar = h("progress", { max: "1", "aria-label": "Progress" });
    this.text = h("span", {}, waiting(record));
    this.element = h("div", { class: "meter" }, this.bar, this.text);
    this.begun = 0;
  }

  /** @param {string} text */
  say(text) {
    this.text.textContent = text;
  }

  /** Show the state that an event tells of. @param {any} data */
  show({ state, progress: at }) {
    if (state === "running" && !at) this.say("Starting …");
    if (!at) return;
    this.begun ||= performance.now();
    this.bar.value = at.done / at.total;
    const unit = at.unit === "epoch" ? "Epoch" : "Step";
    const left = at.done > 1 ? ((performance.now() - this.begun) / (at.done - 1)) * (at.total - at.done) : 0;
    this.say(`${unit} ${at.done} of ${at.total}${left > 2000 ? ` · ${Math.round(left / 1000)} s left` : ""}`);
  }
}

/** @param {any} record */
function waiting({ estimated_start: start }) {
  const seconds = start ? Math.round((Date.parse(start) - Date.now()) / 1000) : 0;
  return seconds > 2 ? `Waiting, about ${seconds} s` : "Waiting …";
}
