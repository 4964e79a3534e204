/** Words and tokens to look for: a field, the prompt's own words, and what is being looked for. */
import { get, post, request } from "./api.js";
import { announce, button, fill, h, iconButton } from "./dom.js";
import { finished } from "./events.js";
import { alertPlace, blame, field, forgive, select } from "./fields.js";
import { Layer } from "./layers.js";
import { decode } from "./rle.js";
import { things } from "./submitting.js";

/** @param {import("./workspace.js").Desk} desk @param {import("./layerlist.js").LayerList} list */
export function finder(desk, list) {
  const { record, image, signal, place } = desk;
  const input = h("input", { name: "words", autocomplete: "off", placeholder: "a word, or several with commas", enterkeyhint: "search" });
  const method = select("method", [["", "the model's best"], "ovam", "daam", "attn2mask"]);
  const together = h("input", { type: "checkbox", name: "together", id: "together" });
  const chips = h("div", { class: "chips", role: "group", "aria-label": "Suggestions" });
  const pending = h("ul", { class: "pending" });
  const form = h(
    "form",
    { class: "find", novalidate: true },
    field("targets", "Find", h("div", { class: "joined" }, input, h("button", { class: "primary" }, "Find"))),
    chips,
    h(
      "details",
      {},
      h("summary", {}, "Options"),
      h("div", { class: "grid" }, field("method", "Method", method)),
      h("div", { class: "check", "data-field": "softmax" }, together, h("label", { for: "together" }, "Let the words compete for each pixel"), h("p", { class: "error" })),
    ),
    alertPlace(),
    pending,
  );
  named(input, form);

  const own = /** @type {any[]} */ (record.result.images[image].segments ?? []); // found while it was drawn
  const plain = (/** @type {object} */ more) => !Object.keys(more).length && !method.value && !together.checked;
  /** @param {number[]} numbers */
  const loadOwn = async (numbers) => {
    for (const number of numbers) list.add(painted(await Layer.of(own[number], record.result, list.color(), `own-${number}`, signal)));
    input.value = "";
  };
  /** @param {any[]} wanted @param {Record<string, string>} [more] of the request */
  const targets = async (wanted, more = {}) => {
    forgive(form);
    try {
      const known = wanted.map(({ word, ...rest }) => (word && plain(rest) && plain(more) ? own.findIndex((each) => each.target.word === word) : -1));
      if (known.every((number) => number >= 0)) return await loadOwn(known);
      const options = { ...(method.value && { method: method.value }), ...(together.checked && { softmax: "together" }), ...more };
      const job = await post("v1/attribute", { job_id: record.id, image, targets: wanted, ...options }, { signal });
      input.value = "";
      await load(job, wanted.map((_, number) => number));
    } catch (problem) {
      blame(form, problem);
    }
  };
  /** Show what a job finds. @param {any} job @param {number[]} numbers of its segments @param {string[]} [labels] */
  const load = async (job, numbers, labels = job.request.targets.map((/** @type {any} */ each) => each.label)) => {
    const item = h("li", {}, h("span", { class: "spinner" }), `Looking for ${labels.join(", ")}`, iconButton("close", "Cancel", () => request("POST", `v1/jobs/${job.id}/cancel`, { body: "{}" }).catch(() => {})));
    pending.append(item);
    announce(`Looking for ${labels.join(", ")}`);
    try {
      const { result } = await finished(job, signal);
      for (const number of numbers) {
        const layer = await Layer.of(result.segments[number], result, list.color(), `${job.id}-${number}`, signal);
        list.add(painted(layer));
      }
      announce(`Found ${labels.join(", ")}`);
    } finally {
      item.remove();
    }
  };
  /** @param {string[]} words */
  const words = (words) => targets(words.map((word) => ({ word })));

  const suggest = async () => {
    const words = things(record.request?.prompt ?? "");
    const chip = (/** @type {string} */ label, /** @type {any[]} */ wanted) => button(label, () => targets(wanted), { class: "chip" });
    const every = words.map((word) => ({ word }));
    const apart = button("all, told apart", () => targets(every, { softmax: "together" }), { class: "chip", title: "The words compete for each pixel" });
    const all = words.length > 1 ? [chip("all of these", every), apart] : [];
    fill(chips, ...words.map((word) => chip(word, [{ word }])), ...all);
    const { tokens } = await get("v1/tokens?limit=20", { signal }).catch(() => ({ tokens: [] }));
    for (const token of tokens.filter((/** @type {any} */ each) => each.model === record.result.model)) {
      const found = chip(`${token.name}@${token.version}`, targetsOf(token));
      found.classList.add("token");
      found.title = "A learned token";
      chips.append(found);
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = input.value.split(",").map((word) => word.trim()).filter(Boolean);
    words(given.length ? given : things(record.request?.prompt ?? ""));
  });
  const recall = async () => {
    suggest();
    const sought = place.query.get("find");
    place.keep({ find: "" });
    /** @type {Map<string, number[]>} */
    const jobs = new Map();
    for (const source of (place.query.get("found") ?? "").split(".").filter(Boolean)) {
      const [id, number] = [source.slice(0, source.indexOf("-")), source.slice(source.indexOf("-") + 1)];
      if (id === "hand") list.add(painted(new Layer(number, desk.stage.width, desk.stage.height, list.color(), { source })));
      else if (id === "own") await loadOwn([Number(number)].filter((each) => own[each]));
      else jobs.set(id, [...(jobs.get(id) ?? []), Number(number)]);
    }
    if (!place.query.has("found") && !sought) await loadOwn([...own.keys()]);
    const loading = [...jobs].map(async ([id, numbers]) => load(await get(`v1/jobs/${id}`, { signal }), numbers));
    const asked = async () => {
      if (sought) await targets((await Promise.all(sought.split(",").map((word) => targetsNamed(word, signal)))).flat());
    };
    await Promise.all([...loading, asked()]).catch((problem) => blame(form, problem));
  };
  return { element: form, targets, words, recall, suggest };
}

/** What an address names: a word, or a token with its version. @param {string} name @param {AbortSignal} signal @returns {Promise<any[]>} */
async function targetsNamed(name, signal) {
  return name.includes("@") ? targetsOf(await get(`v1/tokens/${name}`, { signal })) : [{ word: name }];
}

/** Every class of a token as a target. @param {any} token */
export function targetsOf(token) {
  const { name, version, classes } = token;
  if (classes.length === 1) return [{ token: `${name}@${version}`, label: `${name}@${version}` }];
  return classes.map((/** @type {string} */ each) => ({ token: `${name}@${version}`, class_name: each }));
}

/** A layer with what was painted on it before, if anything was. @param {Layer} layer */
function painted(layer) {
  const kept = sessionStorage.getItem(`ovam-mask-${layer.source}`);
  if (!kept) return layer;
  layer.mask.set(decode({ size: [layer.height, layer.width], counts: kept }));
  layer.painted();
  return layer;
}

/** The label of a field with several controls belongs to its input. @param {HTMLElement} input @param {HTMLElement} form */
function named(input, form) {
  const joined = form.querySelector(".joined");
  if (!joined) return;
  [input.id, joined.id] = [joined.id, ""];
  joined.removeAttribute("id");
  input.setAttribute("aria-describedby", joined.getAttribute("aria-describedby") ?? "");
  joined.removeAttribute("aria-describedby");
}
