/** The loss of a token that is being learned, as a line. */

const SPACE = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [320, 96];

/** A curve that grows. */
export class Curve {
  constructor() {
    /** @type {Map<number, number>} loss by epoch */
    this.losses = new Map();
    this.element = document.createElementNS(SPACE, "svg");
    this.line = document.createElementNS(SPACE, "polyline");
    this.element.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.element.setAttribute("preserveAspectRatio", "none");
    this.element.setAttribute("role", "img");
    this.element.setAttribute("class", "curve");
    this.element.setAttribute("aria-label", "The loss, not known yet");
    this.line.setAttribute("vector-effect", "non-scaling-stroke");
    this.element.append(this.line);
  }

  /** @param {number} epoch @param {number} loss @param {number} total epochs */
  add(epoch, loss, total) {
    this.losses.set(epoch, loss);
    this.draw(total);
  }

  /** Show all losses at once. @param {number[]} losses from the first epoch on */
  set(losses) {
    this.losses = new Map(losses.map((loss, at) => [at + 1, loss]));
    this.draw(losses.length);
  }

  /** @param {number} total epochs */
  draw(total) {
    const epoch = [...this.losses.keys()].at(-1);
    const values = [...this.losses.values()];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const points = [...this.losses].map(([at, value]) => {
      const x = (WIDTH * at) / total;
      const y = HEIGHT - 4 - ((HEIGHT - 8) * (value - low)) / (high - low || 1);
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    });
    this.line.setAttribute("points", points.join(" "));
    this.element.setAttribute(
      "aria-label",
      `The loss: ${values[0].toPrecision(3)} at first, ${low.toPrecision(3)} at best, after ${epoch} epochs`,
    );
  }
}
