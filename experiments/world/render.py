"""Examples of the world by purpose and number, and `python -m experiments.world.render --out runs/render`: a contact sheet."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from experiments.world.captions import caption
from experiments.world.commands import run
from experiments.world.scene import HELD_OUT, START, WORLD, Drawing, Recipe, classes_of, draw, sample

# One seed space a purpose, so that what is learned from never meets what is judged on.
TRAINING, ANNOTATOR_TRAINING, ANNOTATOR_TEST, SHEET, LEAKAGE, EVALUATION_CAPTIONS, EVALUATION_RENDERS, REAL_IMAGES = range(8)
NETWORK_TRAINING, SEGMENTATION, TRAINING_CAPTIONS = 8, 9, 10  # of trained methods; of Table 3's networks, and their data set
# Of what the backbones of those networks learn to name first. Scenes of the bundled model's training have the same first entry
# (`model.data.SEEDS`): both are only learned from, and these numbers are drawn from 2**40, where those are the first few.
BACKBONES = 11
RECIPES = {recipe.name: recipe for recipe in (START, WORLD, HELD_OUT)}


def example(purpose: int, seed: int, recipe: Recipe = WORLD, classes: tuple[str, ...] | None = None) -> tuple[Drawing, str]:
    """Scene number `seed` of a purpose: its drawing with exact masks, and a caption."""
    rng = np.random.default_rng((purpose, seed))
    scene = sample(rng, recipe, classes)
    return draw(scene), caption(rng, scene)


def palette(colours: int = 64) -> list[int]:
    """Colours for label images: black for the ground, then one a class."""
    hues = [(0, 0, 0), *((37 * k % 256, 101 * k % 256, 197 * k % 256) for k in range(1, colours))]
    return [channel for colour in hues for channel in colour]


def sheet(drawings: list[Drawing], columns: int = 10) -> Image.Image:
    """Scenes above their masks."""
    colours = np.array(palette(), np.uint8).reshape(-1, 3)
    rows = []
    for start in range(0, len(drawings), columns):
        chunk = drawings[start : start + columns]
        chunk += [chunk[-1]] * (columns - len(chunk))
        rows += [np.hstack([d.image for d in chunk]), np.hstack([colours[d.labels()] for d in chunk])]
    return Image.fromarray(np.vstack(rows))


def main(
    out: Annotated[Path, typer.Option(help="folder to write to")] = Path("runs/render"),
    count: Annotated[int, typer.Option(min=1, help="random scenes beside the one of each class")] = 40,
    recipe: Annotated[str, typer.Option(help=f"one of: {', '.join(RECIPES)}")] = WORLD.name,
) -> None:
    """Write sheet.png (scenes above their masks) and captions.txt."""
    if recipe not in RECIPES:
        raise typer.BadParameter(f"{recipe!r} is none of {', '.join(RECIPES)}")
    chosen = RECIPES[recipe]
    examples = [example(SHEET, k, chosen, (name,)) for k, name in enumerate(classes_of(chosen))]
    examples += [example(SHEET, 1000 + k, chosen) for k in range(count)]
    out.mkdir(parents=True, exist_ok=True)
    sheet([drawing for drawing, _ in examples]).save(out / "sheet.png")
    (out / "captions.txt").write_text("".join(f"{k:03d} {text}\n" for k, (_, text) in enumerate(examples)))
    typer.echo(f"wrote {len(examples)} scenes to {out}")


if __name__ == "__main__":
    run(main)
