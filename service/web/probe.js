/** Which words are at a place? */
import { get, post } from "./api.js";
import { announce, button, fill, h, iconButton } from "./dom.js";
import { finished } from "./events.js";
import { blame } from "./fields.js";
import { things } from "./submitting.js";

/** @param {import("./workspace.js").Desk} desk */
export function probing(desk) {
  const { record, image, stage, place, signal } = desk;
  const element = h("section", { class: "probe", "aria-label": "At this place", hidden: true });
  let latest = 0;

  /** @param {import("./stage.js").Area} area */
  const mark = (area) => {
    stage.asked = area;
    const right = (area.x + area.width / 2) * 2 > stage.width;
    const low = (area.y + area.height / 2) * 2 > stage.height;
    element.style.setProperty("--x", String((right ? stage.width - area.x : area.x + area.width) / stage.width));
    element.style.setProperty("--y", String((low ? stage.height - area.y - area.height : area.y) / stage.height));
    element.classList.toggle("right", right);
    element.classList.toggle("low", low);
    stage.plan();
  };
  const close = () => {
    element.hidden = true;
    stage.asked = null;
    place.keep({ probe: "" });
    stage.plan();
  };
  /** @param {import("./stage.js").Area} area */
  const ask = async (area) => {
    const turn = (latest += 1);
    mark(area);
    element.hidden = false;
    const where = area.width * area.height > 1 ? { box: [area.x, area.y, area.width, area.height] } : { point: [area.x, area.y] };
    const own = stage.layers.map((layer) => layer.segment?.target?.word).filter(Boolean);
    const words = [...new Set([...things(record.request?.prompt ?? ""), ...own.map((word) => word.toLowerCase())])];
    fill(element, title(area), h("p", { class: "error", role: "alert", "data-field": "" }));
    if (words.length < 2) {
      fill(
        element,
        title(area),
        h(
          "p",
          {},
          words.length
            ? "Find one more word first: a place is told by the words that compete for it."
            : "Find some words first; then click to ask which of them is here.",
        ),
      );
      return;
    }
    try {
      const job = await post(`v1/jobs/${record.id}/probe`, { ...where, image, words }, { signal });
      const { result } = await finished(job, signal);
      if (turn !== latest) return;
      place.keep({ probe: job.id });
      show(area, result);
    } catch (problem) {
      if (!signal.aborted && turn === latest) blame(element, problem);
    }
  };
  /** @param {import("./stage.js").Area} area */
  const title = ({ x, y, width, height }) =>
    h(
      "div",
      { class: "row" },
      h("h2", {}, width * height > 1 ? `In the box at ${x}, ${y}` : `At ${x}, ${y}`),
      iconButton("close", "Close", close),
    );
  /** @param {import("./stage.js").Area} area @param {any} result */
  const show = (area, { words }) => {
    const most = Math.max(...words.map((/** @type {any} */ each) => Math.abs(each.gain)), 1e-9);
    fill(
      element,
      title(area),
      h(
        "ol",
        {},
        words.map((/** @type {any} */ each) => {
          const bar = h("span", { class: "bar" });
          bar.style.setProperty("--part", String(Math.max(0, each.gain / most)));
          const found = stage.layers.some((layer) => layer.segment?.target?.word === each.word);
          return h(
            "li",
            {},
            found
              ? h("span", {}, each.word)
              : button(each.word, () => desk.find([each.word]), { class: "link", title: `Find ${each.word}` }),
            bar,
            h("small", {}, `${each.gain >= 0 ? "+" : "−"}${Math.abs(each.gain).toFixed(2)}`),
          );
        }),
      ),
    );
    announce(
      `Here: ${words
        .slice(0, 3)
        .map((/** @type {any} */ each) => each.word)
        .join(", ")}`,
    );
  };
  const recall = async () => {
    const id = place.query.get("probe");
    if (!id) return;
    const { request, result } = await get(`v1/jobs/${id}`, { signal }).catch(() => ({}));
    if (!result) return;
    const [x, y, width, height] = request.box;
    mark({ x, y, width, height });
    element.hidden = false;
    show({ x, y, width, height }, result);
  };
  return { element, ask, recall };
}
