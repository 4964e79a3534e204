"""How far a word's heat leaks to other things: `python -m experiments.world.leakage MODEL`, a minute, without any annotator.

Renders of two things with exact masks are looked at as real images; each class's word is asked for alone ("a photograph of a
cat") and both in one prompt. Leakage is the heat on the other thing over the heat on its own, both above the ground's:
0 where things are told apart, 1 where the other is as hot.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from torch import Tensor

import ovam
from experiments.world import atlas
from experiments.world.captions import article
from experiments.world.commands import run
from experiments.world.render import LEAKAGE, RECIPES, example
from experiments.world.scene import SIZE, START, Drawing, Recipe, classes_of
from ovam import Method
from ovam.core.selection import Span

LEAST = 150  # pixels of each thing
PLAIN, LATE = Method(), Method(evaluations=Span(0.5))

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Heat:
    """Mean heat of a word on its own thing and on the other one, both above the ground's."""

    own: float
    other: float


def plain_word(name: str) -> str:
    """The plainest word for a class."""
    return atlas.load().kind(name).words[0]


def scenes(count: int, recipe: Recipe = START) -> Iterator[Drawing]:
    """Renders of two things of different classes beside each other, both well visible; Pascal VOC's classes only."""
    names = [name for name in classes_of(recipe) if atlas.load().kind(name).voc]
    apart, number = replace(recipe, related=0.0, twins=0.0), 0
    while count:
        first, second = np.random.default_rng((LEAKAGE, number, 1)).choice(names, 2, replace=False)
        drawing, _ = example(LEAKAGE, number, apart, (str(first), str(second)))
        number += 1
        if min(mask.sum() for mask in drawing.things) >= LEAST:
            count -= 1
            yield drawing


def heat(heatmap: Tensor, own: Mask, other: Mask) -> Heat:
    """The heat of a map (height, width) on two things above the ground's."""
    values = heatmap.numpy()
    ground = values[~(own | other)].mean()
    return Heat(float(values[own].mean() - ground), float(values[other].mean() - ground))


def measured(pipeline: StableDiffusionPipeline, drawing: Drawing, seed: int) -> Iterator[tuple[str, Heat]]:
    """The heats of both words of a render: alone, on each of the UNet's grids, and in one prompt."""
    trace = ovam.trace_image(pipeline, drawing.image, seed=seed)
    grids = sorted({block.grid[0] for block in trace.blocks}, reverse=True)
    words = [plain_word(thing.kind) for thing in drawing.scene.things]
    both = f"a photograph of {article(words[0])} and {article(words[1])}"
    for word, own, other in zip(words, drawing.things, reversed(drawing.things), strict=True):
        alone = f"a photograph of {article(word)}"
        asked = {"alone": (alone, PLAIN), "alone, late": (alone, LATE), "together": (both, PLAIN)}
        asked |= {f"alone, grid {grid}": (alone, replace(PLAIN, blocks=(grid,))) for grid in grids}
        for label, (prompt, method) in asked.items():
            where = {"blocks": method.blocks, "evaluations": method.evaluations}
            heatmap = ovam.word_heatmap(trace, pipeline, prompt, word, size=(SIZE, SIZE), **where)
            yield label, heat(heatmap, own, other)


def ratio(heats: Sequence[Heat]) -> float:
    """Leakage over many words: the mean heat on the others over that on their own. 1 if no word is hotter on its own thing."""
    own = float(np.mean([one.own for one in heats]))
    return float(np.mean([one.other for one in heats])) / own if own > 0 else 1.0


def leakage(pipeline: StableDiffusionPipeline, count: int = 40, recipe: Recipe = START) -> dict[str, float]:
    """Leakage of words alone, late, on each grid, and of both words in one prompt, over `count` renders."""
    found: dict[str, list[Heat]] = defaultdict(list)
    for seed, drawing in enumerate(scenes(count, recipe)):
        for label, one in measured(pipeline, drawing, seed):
            found[label].append(one)
    return {label: round(ratio(heats), 4) for label, heats in found.items()}


def main(
    model: Annotated[Path, typer.Argument(help="a pipeline's folder")],
    count: Annotated[int, typer.Option(min=1, help="renders")] = 40,
    recipe: Annotated[str, typer.Option(help=f"one of: {', '.join(RECIPES)}")] = START.name,
) -> None:
    """Print the leakage of a pipeline as JSON."""
    if recipe not in RECIPES:
        raise typer.BadParameter(f"{recipe!r} is none of {', '.join(RECIPES)}")
    torch.set_num_threads(1)
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    print(json.dumps(leakage(pipeline, count, RECIPES[recipe])))


if __name__ == "__main__":
    run(main)
