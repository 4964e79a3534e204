"""What is lost when traces are kept in half precision: `python -m experiments.half_precision`.

One image a class; the heatmap of its word and the mask of that, from the trace as it was captured and as it is kept.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

import ovam
from experiments.bundled import MODEL, bundle, photograph, words_of
from experiments.evaluation.subjects import overlap
from experiments.world.commands import run

FIRST_SEED = 40_000
KEPT = (torch.float16, torch.bfloat16)


def main(model: Annotated[Path, typer.Option(help="the pipeline")] = MODEL) -> None:
    """Generate the images and compare."""
    ours = bundle(model)
    words = list(words_of(ours.world).values())
    traces = [ours.generate(photograph(word), FIRST_SEED + number)[1] for number, word in enumerate(words)]

    def heatmaps(dtype: torch.dtype) -> list[np.ndarray]:
        maps = [
            ovam.word_heatmap(trace.to(dtype=dtype), ours.pipeline, photograph(word), word, size=trace.image_size)
            for trace, word in zip(traces, words, strict=True)
        ]
        return [one.float().numpy() for one in maps]

    exact = heatmaps(torch.float32)
    for dtype in KEPT:
        pairs = list(zip(heatmaps(dtype), exact, strict=True))
        worst = max(float(np.abs(one - other).max() / other.max()) for one, other in pairs)
        ious = [overlap(*(ovam.binarize(heat, 0.5, normalize="minmax") for heat in pair)) for pair in pairs]
        print(f"{dtype}: error at most {worst:.1e} of the maximum; IoU at least {min(ious):.4f}, mean {np.mean(ious):.4f}")


if __name__ == "__main__":
    run(main)
