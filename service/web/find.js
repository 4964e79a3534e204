/** Words and tokens to look for: a field, suggestions, and what is being looked for. */
import { get, post } from "./api.js";
import { announce, button, fill, h, iconButton } from "./dom.js";
import { finished } from "./events.js";
import { alertPlace, blame, field, forgive } from "./fields.js";
import { Layer } from "./layers.js";
import { imageOf, inputsOf } from "./options.js";
import { decode } from "./rle.js";
import { things } from "./submitting.js";

/**
 * What looks for targets, and shows what is found.
 * @typedef {object} Search
 * @property {(wanted: any[], more?: Record<string, any>) => Promise<void>} targets look for them, with `more` in the request
 * @property {(job: any, numbers: number[]) => Promise<void>} load show segments of a job when it has ended
 * @property {(numbers: number[]) => Promise<void>} loadOwn show segments that were found while the image was drawn
 * @property {any[]} own those segments
 * @typedef {import("./workspace.js").Desk} Desk
 * @typedef {import("./layerlist.js").LayerList} LayerList
 */

/** @param {Desk} desk @param {LayerList} list */
export function finder(desk, list) {
  const { record, place } = desk;
  const prompt = record.request?.prompt ?? "";
  const input = h("input", { autocomplete: "off", placeholder: "a word, or several with commas", enterkeyhint: "search" });
  const { elements, read } = inputsOf(options(desk));
  const chips = h("div", { class: "chips", role: "group", "aria-label": "Suggestions" });
  const pending = h("ul", { class: "pending" });
  const form = h(
    "form",
    { class: "find", novalidate: true },
    field("targets", "Find", h("div", { class: "joined" }, input, h("button", { class: "primary" }, "Find"))),
    chips,
    h("details", {}, h("summary", {}, "Options"), h("div", { class: "grid" }, elements)),
    alertPlace(),
    pending,
  );
  const chosen = () => {
    const { against, ...others } = read();
    const { job_id, image } = against ? imageOf(against) : {};
    return { ...others, ...(job_id && { against: job_id, against_image: image }) };
  };
  const search = searching(desk, list, { form, pending, chosen });
  const words = async (/** @type {string[]} */ wanted) => {
    await search.targets(wanted.map((word) => ({ word })));
    if (!form.querySelector("[aria-invalid]")) input.value = "";
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = input.value
      .split(",")
      .map((word) => word.trim())
      .filter(Boolean);
    words(given.length ? given : things(prompt));
  });
  const recall = async () => {
    suggest(chips, desk, prompt, search).catch(() => {});
    const sought = place.query.get("find") ?? "";
    place.keep({ find: "" });
    await recalled(desk, list, search, sought).catch((problem) => blame(form, problem));
  };
  return { element: form, targets: search.targets, words, recall };
}

/** How to look, as far as the image's model and what is kept of it allow. @param {Desk} desk @returns {import("./options.js").Option[]} */
function options({ record: { kind, result }, card }) {
  const can = (/** @type {string} */ name) => card.can?.includes(name);
  const [first, ...others] = card.attentions ?? [];
  const own = card.networks?.length ? card.networks : [];
  /** @type {(import("./options.js").Option | false)[]} */
  const all = [
    { name: "method", label: "Method", kind: "select", usual: [["", "the model's best"], "ovam", "daam", "attn2mask", ...own] },
    others.length > 0 && { name: "settings.attention", label: "Attention", kind: "select", usual: [["", first], ...others] },
    can("aggregation") &&
      result.keep === "replay" && {
        name: "settings.aggregation",
        label: "Blocks and heads weigh",
        kind: "select",
        usual: [
          ["", "as the method says"],
          ["equal", "all the same"],
          ["automatic", "by what they contribute"],
        ],
      },
    { name: "against", label: "Compare with", kind: "text", usual: "a job's id" },
    { name: "softmax", label: "Let the words compete for each pixel", kind: "check", value: "together" },
    can("confidence") && { name: "confidence", label: "Say how sure each mask is", kind: "check" },
    can("causal") &&
      kind === "generate" && { name: "causal", label: "Draw it again without each word (slow)", kind: "check", value: {} },
    { name: "causal.instead", label: "A word instead", kind: "text", usual: "none", needs: "causal" },
    { name: "causal.from_evaluation", label: "From (share of the way)", kind: "number", usual: 0.5, needs: "causal" },
  ];
  return all.filter((each) => each !== false);
}

/**
 * @param {Desk} desk @param {LayerList} list
 * @param {{form: HTMLElement, pending: HTMLElement, chosen: () => Record<string, any>}} parts @returns {Search}
 */
function searching(desk, list, { form, pending, chosen }) {
  const { record, image, signal } = desk;
  const own = record.result.images[image].segments ?? [];
  /** @param {any} segment @param {any} result @param {string} source */
  const show = async (segment, result, source) =>
    list.add(painted(await Layer.of(segment, result, list.color(), source, signal)));
  /** @param {number[]} numbers */
  const loadOwn = async (numbers) => {
    for (const number of numbers) await show(own[number], record.result, `own-${number}`);
  };
  /** @param {any} job @param {number[]} numbers */
  const load = async (job, numbers) => {
    const labels = job.request.targets.map((/** @type {any} */ each) => each.label).join(", ");
    const stop = iconButton("close", "Cancel", () => post(`v1/jobs/${job.id}/cancel`, {}).catch(() => {}));
    const item = h("li", {}, h("span", { class: "spinner" }), `Looking for ${labels}`, stop);
    pending.append(item);
    announce(`Looking for ${labels}`);
    try {
      const { result } = await finished(job, signal);
      for (const number of numbers) await show(result.segments[number], result, `${job.id}-${number}`);
      announce(`Found ${labels}`);
    } finally {
      item.remove();
    }
  };
  /** @param {any[]} wanted @param {Record<string, any>} [more] */
  const targets = async (wanted, more = {}) => {
    forgive(form);
    const all = { ...chosen(), ...more };
    const usual = Object.keys(all).length === 0;
    const known = wanted.map((each) =>
      usual && isWord(each) ? own.findIndex((/** @type {any} */ one) => one.target.word === each.word) : -1,
    );
    try {
      if (known.every((number) => number >= 0)) return await loadOwn(known);
      const job = await post("v1/attribute", { job_id: record.id, image, targets: wanted, ...all }, { signal });
      await load(
        job,
        wanted.map((_, number) => number),
      );
    } catch (problem) {
      blame(form, problem);
    }
  };
  return { targets, load, loadOwn, own };
}

/** Whether a target is a word, and nothing else is said of it. @param {any} target */
function isWord(target) {
  return "word" in target && Object.keys(target).length === 1;
}

/**
 * Suggest the prompt's words, and the tokens.
 * @param {HTMLElement} chips @param {Desk} desk @param {string} prompt @param {Search} search
 */
async function suggest(chips, { record, signal }, prompt, search) {
  const words = things(prompt).map((word) => ({ word }));
  /** @param {string} label @param {any[]} wanted @param {string} [title] @param {Record<string, string>} [more] */
  const chip = (label, wanted, title, more) => button(label, () => search.targets(wanted, more), { class: "chip", title });
  const all = words.length > 1 && [
    chip("all of these", words),
    chip("all, told apart", words, "The words compete for each pixel", { softmax: "together" }),
  ];
  fill(
    chips,
    words.map(({ word }) => chip(word, [{ word }])),
    all || [],
  );
  const { tokens } = await get("v1/tokens?limit=20", { signal });
  for (const token of tokens.filter((/** @type {any} */ each) => each.model === record.result.model)) {
    const found = chip(`${token.name}@${token.version}`, targetsOf(token), "A learned token");
    found.classList.add("token");
    chips.append(found);
  }
}

/**
 * Show what the address remembers, and look for what it asks for.
 * @param {Desk} desk @param {LayerList} list @param {Search} search @param {string} sought
 */
async function recalled({ place, signal, stage }, list, search, sought) {
  const remembered = place.query.has("found");
  /** @type {Map<string, number[]>} */
  const jobs = new Map();
  for (const source of (place.query.get("found") ?? "").split(".").filter(Boolean)) {
    const [id, ...rest] = source.split("-");
    const name = rest.join("-");
    if (id === "hand") list.add(painted(new Layer(name, stage.width, stage.height, list.color(), { source })));
    else jobs.set(id, [...(jobs.get(id) ?? []), Number(name)]);
  }
  const waiting = [...jobs].map(async ([id, numbers]) =>
    id === "own"
      ? search.loadOwn(numbers.filter((number) => search.own[number]))
      : search.load(await get(`v1/jobs/${id}`, { signal }), numbers),
  );
  if (!remembered && !sought) waiting.push(search.loadOwn([...search.own.keys()]));
  const asked = async () =>
    search.targets((await Promise.all(sought.split(",").map((name) => targetsNamed(name, signal)))).flat());
  await Promise.all([...waiting, sought && asked()]);
}

/**
 * What an address names: a word, or a token with its version.
 * @param {string} name @param {AbortSignal} signal @returns {Promise<any[]>}
 */
async function targetsNamed(name, signal) {
  return name.includes("@") ? targetsOf(await get(`v1/tokens/${name}`, { signal })) : [{ word: name }];
}

/** Every class of a token as a target. @param {any} token */
export function targetsOf({ name, version, classes }) {
  const token = `${name}@${version}`;
  return classes.length === 1
    ? [{ token, label: token }]
    : classes.map((/** @type {string} */ each) => ({ token, class_name: each }));
}

/** A layer with what was painted on it before, if anything was. @param {Layer} layer */
function painted(layer) {
  const kept = sessionStorage.getItem(`ovam-mask-${layer.source}`);
  if (!kept) return layer;
  layer.mask.set(decode({ size: [layer.height, layer.width], counts: kept }));
  layer.painted();
  return layer;
}
