"""How best to look at a real image: `python -m experiments.real_images` measures timesteps, prompts and inversion.

The real images are renders of the tiny world, whose masks are exact; the bundled model did not make them and was not trained
on them. These are seeds for tuning: no figure that is reported elsewhere comes from them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

import ovam
from experiments.client import overlap
from experiments.tinyworld.render import REAL_IMAGES, example
from experiments.tinyworld.shapes import CLASS_NAMES
from ovam.heatmaps import resize

GRID = range(100, 901, 100)  # timesteps
STEPS = 15  # of the inversion
SETS: dict[str, range] = {
    **{str(step): range(step, step + 1) for step in GRID},
    "200, 300 ... 600": range(200, 601, 100),
    "300, 400 ... 700": range(300, 701, 100),
    "400, 500 ... 800": range(400, 801, 100),
    "100, 300 ... 900": range(100, 901, 200),
    "100, 200 ... 900": GRID,
}
ONE_NOISE = "300, 400 ... 700, the same noise"
PATHS: dict[str, slice] = {"ddim": slice(None), "ddim, 333 ... 666": slice(5, 11)}

Scores = dict[tuple[str, str], list[float]]
"""IoU of every image, by (evaluations, what else was chosen)."""


@dataclass(frozen=True, eq=False)
class Look:
    """A class's image, its mask and how its word is asked for."""

    pipeline: StableDiffusionPipeline
    name: str
    truth: NDArray[np.bool_]
    trace: ovam.Trace

    def heat(self, positions: list[int]) -> torch.Tensor:
        """The word's heatmap over some evaluations of the trace, (1, height, width)."""
        prompt = f"a photograph of a {self.name}"
        return ovam.word_heatmap(self.trace, self.pipeline, prompt, self.name, evaluations=positions)[None]

    def spread(self, positions: list[int]) -> torch.Tensor:
        """The same, spread along the self-attention of the same evaluations."""
        return ovam.affinity(self.heat(positions), self.trace.self_attention, evaluations=positions)

    def iou(self, heat: torch.Tensor) -> float:
        """How well the mask at half of the range agrees with the truth."""
        mask = ovam.binarize(resize(heat, self.truth.shape)[0], 0.5, normalize="minmax")
        return overlap(mask.numpy(), self.truth)


def measured(pipeline: StableDiffusionPipeline, seed: int, name: str) -> Iterator[tuple[tuple[str, str], float]]:
    """The IoU of every way to look at one render."""
    drawing, caption = example(REAL_IMAGES, seed, (name,))
    truth = drawing.of_class(name)
    for said, prompt in (("no prompt", ""), ("caption", caption)):
        options = {"prompt": prompt, "self_attention": True, "seed": seed}
        look = Look(pipeline, name, truth, ovam.trace_image(pipeline, drawing.image, timesteps=GRID, **options))
        chosen = {label: [GRID.index(step) for step in steps] for label, steps in SETS.items()}
        yield from scored(look, chosen, said)
        path = ovam.trace_image(pipeline, drawing.image, inversion="ddim", num_inference_steps=STEPS, **options)
        yield from scored(Look(pipeline, name, truth, path), {k: [*range(STEPS)[v]] for k, v in PATHS.items()}, said)
    singles = [ovam.trace_image(pipeline, drawing.image, timesteps=[step], seed=seed) for step in SETS["300, 400 ... 700"]]
    looks = [Look(pipeline, name, truth, trace) for trace in singles]
    yield (ONE_NOISE, "no prompt"), looks[0].iou(torch.stack([look.heat([0]) for look in looks]).mean(dim=0))


def scored(look: Look, chosen: dict[str, list[int]], said: str) -> Iterator[tuple[tuple[str, str], float]]:
    """The IoU for several choices of evaluations, plain and refined."""
    for label, positions in chosen.items():
        yield (label, said), look.iou(look.heat(positions))
        yield (label, f"{said}, affinity"), look.iou(look.spread(positions))


def table(scores: Scores) -> str:
    """Mean IoU as Markdown."""
    columns = list(dict.fromkeys(column for _, column in scores))
    lines = [f"| evaluations | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for label in dict.fromkeys(label for label, _ in scores):
        cells = [f"{np.mean(scores[label, column]):.3f}" if (label, column) in scores else "" for column in columns]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(
    model: Annotated[Path, typer.Option(help="the pipeline")] = Path("models/tiny"),
    renders: Annotated[int, typer.Option(min=1, help="renders a class")] = 5,
) -> None:
    """Print the mean IoU of a word's mask for every way to look at a real image."""
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    scores: Scores = {}
    for number in range(renders * len(CLASS_NAMES)):
        for choice, iou in measured(pipeline, number, CLASS_NAMES[number % len(CLASS_NAMES)]):
            scores.setdefault(choice, []).append(iou)
    print(table(scores))


if __name__ == "__main__":
    typer.run(main)
