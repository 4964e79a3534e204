/** A job's events as they come. EventSource sends no key, so the stream is read by fetch. */
import { Problem, get, request } from "./api.js";

/** @typedef {{id: string, event: string, data: any}} JobEvent */

/**
 * The events at a path until the end of what they are of; after a cut they go on where they were.
 * @param {string} path as `v1/jobs/ID` @param {AbortSignal} signal @returns {AsyncGenerator<JobEvent>}
 */
export async function* follow(path, signal) {
  let last = "";
  for (let failures = 0; failures < 8 && !signal.aborted;) {
    try {
      const headers = /** @type {Record<string, string>} */ (last ? { "Last-Event-ID": last } : {});
      const answer = await request("GET", `${path}/events`, { signal, headers });
      for await (const event of parsed(answer)) {
        failures = 0;
        last = event.id || last;
        yield event;
        if (isFinal(event.data.state)) return;
      }
    } catch (error) {
      if (signal.aborted || (error instanceof Problem && error.status)) throw error;
    }
    failures += 1;
    await new Promise((resolve) => setTimeout(resolve, 300 * failures));
  }
}

/** @param {Response} answer @returns {AsyncGenerator<JobEvent>} */
async function* parsed(answer) {
  if (!answer.body) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split(/\r?\n\r?\n/);
    rest = parts.pop() ?? "";
    for (const part of parts) {
      /** @type {Record<string, string>} */
      const fields = {};
      for (const line of part.split(/\r?\n/)) {
        const at = line.indexOf(":");
        if (at > 0) fields[line.slice(0, at)] = line.slice(at + 1).trimStart();
      }
      if (fields.data) yield { id: fields.id ?? "", event: fields.event ?? "message", data: JSON.parse(fields.data) };
    }
  }
}

/** Whether nothing will change any more. @param {string} state */
export function isFinal(state) {
  return ["succeeded", "failed", "canceled", "expired"].includes(state);
}

/**
 * Wait for a job. Throws its error, as a problem, if it did not succeed.
 * @param {any} record @param {AbortSignal} signal @param {(event: JobEvent) => void} [seen] @returns {Promise<any>} its record
 */
export async function finished(record, signal, seen = () => {}) {
  if (!isFinal(record.state)) for await (const event of follow(`v1/jobs/${record.id}`, signal)) seen(event);
  const ended = await get(`v1/jobs/${record.id}`, { signal });
  if (ended.result) return ended;
  const error = ended.error ?? {};
  const detail = error.detail ?? (ended.state === "canceled" ? "Canceled." : `The job is ${ended.state}.`);
  throw new Problem({
    status: 1,
    code: error.code ?? ended.state,
    detail,
    errors: error.field ? [{ ...error, field: error.field }] : [],
  });
}
