/** The HTTP API: one way to ask it, its problems as errors, the key, and files. */

/** @typedef {{field: string, detail: string, value?: unknown}} FieldError */
/** @typedef {{signal?: AbortSignal, headers?: Record<string, string>}} Options */

const ROOT = new URL(".", document.baseURI);
const KEY = "ovam-key";
const TRIES = 4;

/** An answer that says what is wrong (RFC 9457), or that nobody answered. */
export class Problem extends Error {
  /** @param {{status?: number, code?: string, title?: string, detail?: string, errors?: FieldError[]}} said */
  constructor(said) {
    super(said.detail || said.title || "The service gave an answer that this page does not understand.");
    this.status = said.status ?? 0;
    this.code = said.code ?? "unreachable";
    this.errors = said.errors ?? [];
  }
}

/** @type {{wanted: (problem: Problem) => Promise<boolean>}} What to do when a key is missing: true if there is a new one now. */
export const door = { wanted: async () => false };

/** The API key of this tab, or nothing. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  /** @param {string} value */
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** The address of a path; addresses in answers are whole paths already. @param {string} path */
export function address(path) {
  return new URL(path, ROOT).href;
}

/**
 * Send a request, with the key. What failed for a moment is tried again; a submission is still one job.
 * @param {string} method @param {string} path @param {{body?: string, signal?: AbortSignal, headers?: Record<string, string>}} [options]
 * @returns {Promise<Response>} an answer that is no error
 */
export async function request(method, path, options = {}) {
  /** @type {Record<string, string>} */
  const headers = { ...options.headers };
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  if (method === "POST") headers["Idempotency-Key"] = Array.from(crypto.getRandomValues(new Uint32Array(4)), String).join("-");
  for (let tried = 1; ; tried += 1) {
    if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
    const answer = await fetch(address(path), { method, headers, body: options.body, signal: options.signal }).catch((error) => {
      if (options.signal?.aborted) throw error;
      return null;
    });
    if (answer?.ok) return answer;
    const problem = answer ? await problemOf(answer) : new Problem({ detail: "The service does not answer. Is it running?" });
    if (problem.code === "unauthenticated" && (await door.wanted(problem))) continue;
    const passing = !answer || answer.status === 503;
    if (!passing || tried === TRIES) throw problem;
    await new Promise((resolve) => setTimeout(resolve, 250 * 2 ** tried));
  }
}

/** Try a key. Throws the problem if it lets nobody in. @param {string} value */
export async function letIn(value) {
  if (!/^[!-~]+$/.test(value))
    throw new Problem({
      detail: "A key looks like ovam_…, without spaces.",
      errors: [{ field: "Authorization", detail: "A key looks like ovam_…, without spaces" }],
    });
  const answer = await fetch(address("v1/models"), { headers: { Authorization: `Bearer ${value}` } });
  if (!answer.ok) throw await problemOf(answer);
}

/** @param {Response} answer */
async function problemOf(answer) {
  const said = await answer.json().catch(() => ({}));
  return new Problem({ status: answer.status, ...said });
}

/** Ask for JSON. @param {string} path @param {Options} [options] @returns {Promise<any>} */
export async function get(path, options) {
  return (await request("GET", path, options)).json();
}

/** Send JSON. @param {string} path @param {unknown} body @param {Options} [options] @returns {Promise<any>} */
export async function post(path, body, options) {
  return (await request("POST", path, { ...options, body: JSON.stringify(body) })).json();
}

/** A file. @param {{url: string}} file @param {AbortSignal} [signal] */
export async function blob(file, signal) {
  return (await request("GET", file.url, { signal })).blob();
}

/** Numbers of a `.npy` file of 32-bit floats. @param {{url: string}} file @param {AbortSignal} [signal] */
export async function numbers(file, signal) {
  const data = await (await request("GET", file.url, { signal })).arrayBuffer();
  const header = new DataView(data).getUint16(8, true);
  return new Float32Array(data, 10 + header);
}

/** A blob as base64. @param {Blob} file @returns {Promise<string>} */
export async function base64(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 32_768) text += String.fromCharCode(...bytes.subarray(at, at + 32_768));
  return btoa(text);
}

/** @type {Promise<any> | null} */
let described = null;

/**
 * Whether the API has an operation at a path; or, if one is named, whether its requests of a kind have a field.
 * @param {string} path @param {string} [schema] @param {string} [field]
 */
export async function offers(path, schema, field) {
  described ??= get("openapi.json").catch(() => ({ paths: {} }));
  const api = await described;
  return path in api.paths && (!schema || !field || field in (api.components?.schemas?.[schema]?.properties ?? {}));
}
