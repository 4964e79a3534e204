/** How images come to be: drawn from a request, or taken from a photograph. */
import { Problem, base64, offers, post } from "./api.js";

const MOST_BYTES = 5_000_000; // of a photograph as it is; larger ones are made smaller here
const LONGEST_SIDE = 1536;
const MOST_TARGETS = 8; // that are looked for while an image is drawn
const EVERY = 3; // evaluations between two looks
const DRAWING =
  `prompt negative_prompt model seed num_images num_inference_steps guidance_scale height width scheduler capture image mask strength
  adapters control image_prompt emphasis clip_skip`.split(/\s+/);
const SMALL_WORDS = new Set(
  `a an and are as at by for from has have in into is it its no not of on or over that the their there this to under up was
  wearing were with without photograph photo picture image drawing painting`.split(/\s+/),
);

/** The words of a prompt that may be things. @param {string} prompt */
export function things(prompt) {
  const words = prompt.toLowerCase().match(/[\p{L}\p{M}\p{N}'’-]+/gu) ?? [];
  return [...new Set(words)].filter((word) => !SMALL_WORDS.has(word)).slice(0, 12);
}

/** Requests that brought pictures, by their jobs: a record says of a picture only that there was one. @type {Map<string, any>} */
const sent = new Map();

/** What the beginning is filled in with. @type {{request: any}} */
export const next = { request: {} };

/**
 * File a generation; its words are looked for meanwhile, if the service can.
 * @param {Record<string, any>} request whose pictures may be files
 */
export async function drawn(request) {
  const drawing = Object.fromEntries(DRAWING.filter((name) => request[name] != null).map((name) => [name, request[name]]));
  let pictures = 0;
  for (const part of [drawing, drawing.control, drawing.image_prompt])
    for (const name of ["image", "mask"]) {
      if (part?.[name] instanceof Blob) part[name] = await base64(await smaller(part[name]));
      if (typeof part?.[name] === "string") pictures += 1;
    }
  const words = (await offers("/v1/generate", "GenerateRequest", "targets"))
    ? things(String(drawing.prompt)).slice(0, MOST_TARGETS)
    : [];
  const looked = words.length && { targets: words.map((word) => ({ word })), every: EVERY };
  const job = await post("v1/generate", { ...drawing, ...looked });
  if (pictures) sent.set(job.id, drawing);
  return job;
}

/**
 * The request of a job, to be sent again: without what only a record has, and without pictures that are not here any more.
 * @param {any} record @returns {{request: any, lost: boolean}} `lost`: whether a picture is missing
 */
export function requestOf(record) {
  if (sent.has(record.id)) return { request: sent.get(record.id), lost: false };
  let lost = false;
  const request = JSON.parse(JSON.stringify(record.request ?? {}), (key, value) => {
    if (value?.sha256) lost = true;
    return key === "weights" || key === "kind" || value?.sha256 ? undefined : value;
  });
  return { request, lost };
}

/** File the same again with another seed. @param {any} record */
export async function drawnAnew(record) {
  const { request, lost } = requestOf(record);
  if (lost)
    throw new Problem({ detail: "The picture that this came from is not here any more: choose it again, by “Change it”" });
  return drawn({ ...request, seed: null, num_images: 1 });
}

/** Begin again with a job's request, changed. @param {any} record @param {Record<string, any>} [changes] */
export function changed(record, changes) {
  const { prompt, model, ...others } = requestOf(record).request;
  next.request = {
    prompt: prompt || "a photograph",
    model,
    ...(record.kind === "generate" && { ...others, seed: null }),
    ...changes,
  };
  location.hash = "#/";
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
