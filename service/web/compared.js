/** What is said of a segment beside its mask: how sure it is, how it differs from another image, what its word does. */
import { blob } from "./api.js";
import { h } from "./dom.js";

/** @typedef {import("./layers.js").Layer} Layer */

const UNSURE = 0.5; // below it, a mask is worth a look

/** A file of the service as a picture. @param {{url: string}} file @param {string} alt @param {AbortSignal} signal */
export function pictureOf(file, alt, signal) {
  const picture = h("img", { alt });
  blob(file, signal).then(
    (data) => {
      picture.src = URL.createObjectURL(data);
      signal.addEventListener("abort", () => URL.revokeObjectURL(picture.src));
    },
    () => {},
  );
  return picture;
}

/** How sure a mask is, beside its layer's name. @param {any} segment */
export function sureness(segment) {
  const { value, calibrated } = segment?.confidence ?? {};
  if (value == null) return null;
  const low = value < UNSURE;
  const title = calibrated
    ? "The overlap (IoU) with the true mask to expect"
    : "How far halves of the attention agree; not compared with true masks";
  const word = calibrated ? "sure" : "agreement";
  return h("small", { class: low ? "unsure" : "sure", title }, `${low ? "⚠ " : ""}${Math.round(100 * value)} % ${word}`);
}

/** Differences and causal checks of a layer. @param {Layer} layer @param {AbortSignal} signal @returns {HTMLElement[]} */
export function comparisons({ label, segment, causal: how }, signal) {
  const { difference, causal } = segment ?? {};
  const found = [];
  if (difference)
    found.push(
      figure(
        "Heat compared: red more, blue less",
        [[difference.picture, `Red where ${label} has more heat than in the other image, blue where less`]],
        [
          ["inside", signed(difference.inside)],
          ["outside", signed(difference.outside)],
          ["masks' IoU", difference.iou.toFixed(2)],
        ],
        signal,
      ),
    );
  if (causal)
    found.push(
      figure(
        `Drawn from “${causal.prompt}” from evaluation ${how.from_evaluation + 1} of ${how.evaluations} on`,
        [
          [causal.image, `The image drawn from “${causal.prompt}”`],
          [causal.change, "What changed: white the most"],
        ],
        [
          ["changes inside", plain(causal.inside)],
          ["outside", plain(causal.outside)],
          ...(how.redrawn > 0 ? [["by drawing again alone", plain(how.redrawn)]] : []),
        ],
        signal,
      ),
    );
  return found;
}

/**
 * Pictures with their numbers.
 * @param {string} title @param {[{url: string}, string][]} pictures @param {string[][]} numbers each with its name
 * @param {AbortSignal} signal
 */
function figure(title, pictures, numbers, signal) {
  const element = h("figure", {}, h("figcaption", {}, title));
  element.append(...pictures.map(([file, alt]) => pictureOf(file, alt, signal)));
  element.append(h("dl", {}, ...numbers.flatMap(([name, number]) => [h("dt", {}, name), h("dd", {}, number)])));
  return element;
}

/** @param {number | null} number */
function plain(number) {
  return number == null ? "–" : number.toFixed(3);
}

/** @param {number | null} number */
function signed(number) {
  return number == null ? "–" : `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(4)}`;
}
