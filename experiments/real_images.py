"""How best to trace a real image: `python -m experiments.real_images` measures timesteps, prompts and inversion.

Real images are ones that the model did not make, with exact masks. These are seeds for tuning: no figure that is reported
elsewhere comes from them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

import ovam
from experiments.bundled import MODEL, Bundle, bundle, photograph, words_of
from experiments.evaluation.subjects import overlap
from experiments.world.commands import run
from ovam.attention.refinement import affinity
from ovam.attention.scores import resize

FIRST_SEED = 390_000
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
class TracedImage:
    """A class's image, its mask and its trace."""

    pipeline: StableDiffusionPipeline
    word: str
    truth: NDArray[np.bool_]
    trace: ovam.Trace

    def heat(self, positions: list[int]) -> torch.Tensor:
        """The word's heatmap over some evaluations of the trace, (1, height, width)."""
        return ovam.word_heatmap(self.trace, self.pipeline, photograph(self.word), self.word, evaluations=positions)[None]

    def spread(self, positions: list[int]) -> torch.Tensor:
        """The same, spread along the self-attention of the same evaluations."""
        return affinity(self.heat(positions), self.trace.self_attention, evaluations=positions)

    def iou(self, heat: torch.Tensor) -> float:
        """How well the mask at half of the range agrees with the truth."""
        mask = ovam.binarize(resize(heat, self.truth.shape)[0], 0.5, normalize="minmax")
        return overlap(mask, self.truth)


def measured(ours: Bundle, seed: int, class_name: str) -> Iterator[tuple[tuple[str, str], float]]:
    """The IoU of every way to trace one real image."""
    word = words_of(ours.world)[class_name]
    real = ours.world.real_image(class_name, seed, 1)
    truth = real.labels == ours.world.label(class_name)

    def traced(**options: Any) -> TracedImage:  # noqa: ANN401 - as `trace_image` takes them
        trace = ovam.trace_image(ours.pipeline, real.image, seed=seed, **options)
        return TracedImage(ours.pipeline, word, truth, trace)

    for column, prompt in (("no prompt", ""), ("caption", photograph(word))):
        noisy = traced(prompt=prompt, self_attention=True, timesteps=GRID)
        chosen = {label: [GRID.index(step) for step in steps] for label, steps in SETS.items()}
        yield from scored(noisy, chosen, column)
        path = traced(prompt=prompt, self_attention=True, inversion="ddim", num_inference_steps=STEPS)
        yield from scored(path, {k: [*range(STEPS)[v]] for k, v in PATHS.items()}, column)
    singles = [traced(timesteps=[step]) for step in SETS["300, 400 ... 700"]]
    yield (ONE_NOISE, "no prompt"), singles[0].iou(torch.stack([one.heat([0]) for one in singles]).mean(dim=0))


def scored(image: TracedImage, chosen: dict[str, list[int]], column: str) -> Iterator[tuple[tuple[str, str], float]]:
    """The IoU for several choices of evaluations, plain and refined."""
    for label, positions in chosen.items():
        yield (label, column), image.iou(image.heat(positions))
        yield (label, f"{column}, affinity"), image.iou(image.spread(positions))


def table(scores: Scores) -> str:
    """Mean IoU as Markdown."""
    columns = list(dict.fromkeys(column for _, column in scores))
    lines = [f"| evaluations | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for label in dict.fromkeys(label for label, _ in scores):
        cells = [f"{np.mean(scores[label, column]):.3f}" if (label, column) in scores else "" for column in columns]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(
    model: Annotated[Path, typer.Option(help="the pipeline")] = MODEL,
    images: Annotated[int, typer.Option(min=1, help="real images a class")] = 5,
) -> None:
    """Print the mean IoU of a word's mask for every way to trace a real image."""
    ours = bundle(model)
    scores: Scores = {}
    for number, name in enumerate([*words_of(ours.world)] * images):
        for choice, iou in measured(ours, FIRST_SEED + number, name):
            scores.setdefault(choice, []).append(iou)
    print(table(scores))


if __name__ == "__main__":
    run(main)
