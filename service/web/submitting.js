/** How images come to be: drawn from a request, or taken from a photograph. */
import { base64, offers, post } from "./api.js";

const MOST_BYTES = 5_000_000; // of a photograph as it is; larger ones are made smaller here
const LONGEST_SIDE = 1536;
const MOST_TARGETS = 8; // that are looked for while an image is drawn
const EVERY = 3; // evaluations between two looks
const DRAWING = [
  "prompt",
  "negative_prompt",
  "model",
  "seed",
  "num_images",
  "num_inference_steps",
  "guidance_scale",
  "height",
  "width",
  "scheduler",
  "capture",
];
const SMALL_WORDS = new Set(
  `a an and are as at by for from has have in into is it its no not of on or over that the their there this to under up was
  wearing were with without photograph photo picture image drawing painting`.split(/\s+/),
);

/** The words of a prompt that may be things. @param {string} prompt */
export function things(prompt) {
  const words = prompt.toLowerCase().match(/[\p{L}\p{M}\p{N}'’-]+/gu) ?? [];
  return [...new Set(words)].filter((word) => !SMALL_WORDS.has(word)).slice(0, 12);
}

/**
 * File a generation; its words are looked for meanwhile, if the service can. Of a job's request only what draws is sent again.
 * @param {Record<string, any>} request @param {Record<string, any>} [changes]
 */
export async function drawn(request, changes = {}) {
  const all = { ...request, ...changes };
  const drawing = Object.fromEntries(DRAWING.filter((name) => all[name] != null).map((name) => [name, all[name]]));
  const start = typeof all.image === "string" ? { job_id: all.image } : all.image?.job_id ? all.image : null;
  if (start) Object.assign(drawing, { image: start, ...(all.strength != null && { strength: all.strength }) });
  if (all.adapters?.length) drawing.adapters = adapters(all.adapters);
  const words = (await offers("/v1/generate", "GenerateRequest", "targets"))
    ? things(String(drawing.prompt)).slice(0, MOST_TARGETS)
    : [];
  return post("v1/generate", { ...drawing, ...(words.length && { targets: words.map((word) => ({ word })), every: EVERY }) });
}

/** Adapters as a request has them. @param {string | {name: string, scale: number}[]} said as `name:scale, ...`, or of a record */
function adapters(said) {
  if (typeof said !== "string") return said.map(({ name, scale }) => ({ name, scale }));
  return said.split(",").map((each) => {
    const [name = "", scale] = each.trim().split(":");
    return { name, ...(scale ? { scale: Number(scale) } : {}) };
  });
}

/** File a photograph's job. @param {Blob} file @param {string} [model] */
export async function taken(file, model) {
  return post("v1/images", { image: await base64(await smaller(file)), ...(model ? { model } : {}) });
}

/**
 * A photograph that fits into a request. What no browser can read is sent as it is: the service says what is wrong with it.
 * @param {Blob} file
 */
async function smaller(file) {
  const picture = file.size > MOST_BYTES ? await createImageBitmap(file).catch(() => null) : null;
  if (!picture) return file;
  const scale = Math.min(1, LONGEST_SIDE / Math.max(picture.width, picture.height));
  const canvas = new OffscreenCanvas(Math.round(picture.width * scale), Math.round(picture.height * scale));
  canvas.getContext("2d")?.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
}
