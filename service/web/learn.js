/** Learn a token from a mask, watch the loss, and try it elsewhere. */
import { get, post, request } from "./api.js";
import { announce, button, fill, h, icon, save, slug } from "./dom.js";
import { finished } from "./events.js";
import { targetsOf } from "./find.js";
import { Curve } from "./curve.js";
import { alertPlace, blame, field, forgive } from "./fields.js";
import { fileInput } from "./options.js";
import { drawn, drawnAnew, taken } from "./submitting.js";
import { Meter } from "./progress.js";
import { encode } from "./rle.js";

/** @param {import("./workspace.js").Desk} desk */
export function learning(desk) {
  const { record, image, signal, place } = desk;
  const element = h("section", { class: "learn", "aria-label": "Learn", hidden: true });

  /** @param {import("./layers.js").Layer} layer */
  const open = (layer) => {
    if (desk.stage.only) desk.hands.left();
    const name = h("input", {
      name: "name",
      value: slug(layer.label.replace(/@\d+$/, "")),
      autocomplete: "off",
      spellcheck: "false",
    });
    const epochs = h("input", { type: "number", name: "epochs", placeholder: "300", inputmode: "numeric" });
    const form = h(
      "form",
      { novalidate: true },
      h("h2", {}, `Learn “${layer.label}” from this mask`),
      field("name", "Name of the token", name, "Small letters, digits, dots and hyphens. A name in use gets a new version."),
      h("details", {}, h("summary", {}, "Settings"), h("div", { class: "grid" }, field("epochs", "Epochs", epochs))),
      alertPlace(),
      h(
        "div",
        { class: "row" },
        h("button", { class: "primary" }, "Learn"),
        button("Not now", () => (element.hidden = true)),
      ),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      forgive(form);
      const { mask, width, height, label } = layer.refresh();
      const example = { job_id: record.id, image, mask: encode(mask, width, height) };
      const options = epochs.value ? { epochs: epochs.valueAsNumber } : {};
      try {
        await watch(
          await post("v1/optimize", { name: name.value.trim(), classes: [label], examples: [example], ...options }, { signal }),
        );
      } catch (problem) {
        blame(form.isConnected ? form : element, problem);
      }
    });
    fill(element, form);
    element.hidden = false;
    name.select();
    element.scrollIntoView({ block: "nearest", behavior: "smooth" });
  };

  /** Show a job that learns, to its end. @param {any} job */
  const watch = async (job) => {
    place.keep({ learn: job.id });
    const [curve, meter] = [new Curve(), new Meter(job)];
    const loss = h("output", {});
    const stop = button("Stop, and keep the best", async () => {
      stop.disabled = true;
      await request("POST", `v1/jobs/${job.id}/cancel`, { body: "{}" }).catch(() => {});
    });
    const name = job.request?.name ?? "";
    fill(
      element,
      h("h2", {}, `Learning ${name}`),
      h("div", { class: "plot" }, curve.element, loss),
      meter.element,
      alertPlace(),
      h("div", { class: "row" }, stop),
    );
    element.hidden = false;
    try {
      const ended = await finished(job, signal, ({ data }) => {
        meter.show(data);
        if (data.progress?.loss == null) return;
        curve.add(data.progress.done, data.progress.loss, data.progress.total);
        loss.textContent = data.progress.loss.toPrecision(3);
      });
      curve.set(ended.result.losses);
      learned(ended.result, curve);
    } catch (problem) {
      if (signal.aborted) return;
      stop.remove();
      blame(element, problem);
    }
  };

  /** A token that is there: what it is worth, and where to try it. @param {any} result @param {Curve} curve */
  const learned = (result, curve) => {
    const { token } = result;
    const tried = (/** @type {Promise<any>} */ job) =>
      job.then(
        ({ id }) => (location.hash = `#/jobs/${id}?find=${encodeURIComponent(token)}`),
        (problem) => blame(element, problem),
      );
    const photograph = fileInput("A photograph to look for it in", (file) => tried(taken(file, result.model)));
    const another = () =>
      record.kind === "generate" && record.request
        ? drawnAnew(record)
        : drawn({ prompt: `a photograph of a ${result.classes[0]}`, model: result.model });
    fill(
      element,
      h("h2", {}, token),
      h("div", { class: "plot" }, curve.element),
      h(
        "p",
        {},
        `Its mask agrees with yours by ${Math.round(100 * result.example_iou)} %. `,
        h("small", {}, `Best loss ${result.best_loss.toPrecision(3)}, after ${result.best_epoch} of ${result.epochs} epochs.`),
      ),
      h("p", { class: "hint" }, "Now try it where it has not been taught:"),
      h(
        "div",
        { class: "row" },
        button([icon("again"), "Another seed"], () => tried(another()), { class: "primary" }),
        button([icon("image"), "A photograph"], () => photograph.click()),
        photograph,
        button("This image", async () => desk.seek(targetsOf(await get(`v1/tokens/${token}`, { signal })))),
        button(
          "Download",
          async () => save(await (await request("GET", `v1/tokens/${token}/file`)).blob(), `${token}.safetensors`),
          { class: "link" },
        ),
      ),
      alertPlace(),
    );
    announce(`${token} is learned`);
  };
  const recall = async () => {
    const id = place.query.get("learn");
    const job = id ? await get(`v1/jobs/${id}`, { signal }).catch(() => null) : null;
    if (job) await watch(job);
  };
  return { element, open, recall };
}
