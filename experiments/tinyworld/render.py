"""Draw the world: `python -m experiments.tinyworld.render --out runs/render` writes a contact sheet and its masks."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from experiments.tinyworld.captions import caption
from experiments.tinyworld.scene import Drawing, draw, sample
from experiments.tinyworld.shapes import CLASS_NAMES

# One seed space a purpose, so that what is learned from never meets what is judged on.
TRAINING, ANNOTATOR_TRAINING, ANNOTATOR_TEST, SHEET = range(4)
REAL_IMAGES = 100  # tuning of how real images are looked at


def example(purpose: int, seed: int, classes: tuple[str, ...] | None = None) -> tuple[Drawing, str]:
    """Scene number `seed` of a purpose: its drawing with exact masks, and a caption."""
    rng = np.random.default_rng((purpose, seed))
    scene = sample(rng, classes)
    return draw(scene, rng), caption(rng, scene)


def palette() -> list[int]:
    """Colours for label images: black for the ground, then one a class."""
    hues = [(0, 0, 0), *((int(37 * k % 256), int(101 * k % 256), int(197 * k % 256)) for k in range(1, 11))]
    return [channel for colour in hues for channel in colour]


def main(
    out: Annotated[Path, typer.Option(help="folder to write to")] = Path("runs/render"),
    count: Annotated[int, typer.Option(min=1, help="random scenes beside the one of each class")] = 20,
    zoom: Annotated[int, typer.Option(min=1, help="enlargement of the sheet")] = 2,
) -> None:
    """Write sheet.png (scenes above their masks), captions.txt and one indexed mask a scene."""
    out.mkdir(parents=True, exist_ok=True)
    examples = [example(SHEET, k, (name,)) for k, name in enumerate(CLASS_NAMES)]
    examples += [example(SHEET, 1000 + k) for k in range(count)]
    rows = []
    for start in range(0, len(examples), 10):
        chunk = [drawing for drawing, _ in examples[start : start + 10]]
        chunk += [chunk[-1]] * (10 - len(chunk))
        colours = np.array(palette(), np.uint8).reshape(-1, 3)
        rows += [np.hstack([d.image for d in chunk]), np.hstack([colours[d.labels()] for d in chunk])]
    sheet = Image.fromarray(np.vstack(rows))
    sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST).save(out / "sheet.png")
    for k, (drawing, _) in enumerate(examples):
        mask = Image.fromarray(drawing.labels(), mode="P")
        mask.putpalette(palette())
        mask.save(out / f"mask-{k:03d}.png")
    (out / "captions.txt").write_text("".join(f"{k:03d} {text}\n" for k, (_, text) in enumerate(examples)))
    typer.echo(f"wrote {len(examples)} scenes to {out}")


if __name__ == "__main__":
    typer.run(main)
