"""Does self-attention improve a mask, and with which sign? `python -m experiments.refinement` measures it on the bundled model.

Masks of "a photograph of a <class>" in images of one thing, compared with the annotator's. Seeds for tuning: the figures
compare choices, and do not say how good they are elsewhere.
"""

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import ovam
from experiments.bundled import MODEL, bundle, photograph, words_of
from experiments.evaluation.subjects import CLEAR, overlap
from experiments.world.commands import run
from ovam import Method
from ovam.core.methods import ByAffinity, ByAttention, Refinement
from ovam.core.thresholds import Share

FIRST_SEED = 50_000
CHOICES: dict[str, Refinement | None] = {
    "the heat as it is": None,
    **{f"attention received, alpha {a:g}, sign {sign:+d}": ByAttention(a, sign) for a in (0.85, 0.5) for sign in (1, -1)},
    **{f"affinity, {steps} steps": ByAffinity(steps) for steps in (1, 2, 3, 4)},
}
METHODS = {
    name: Method(threshold=Share(0.5, "minmax")) if refine is None else Method(threshold=Share(0.5, "minmax"), refine=refine)
    for name, refine in CHOICES.items()
}


def main(
    model: Annotated[Path, typer.Option(help="the pipeline")] = MODEL,
    seeds: Annotated[int, typer.Option(min=1, help="images a class")] = 5,
) -> None:
    """Print the mean IoU of every choice, with and without the dense CRF."""
    ours, found = bundle(model), defaultdict[tuple[str, bool], list[float]](list)
    words = words_of(ours.world)
    for number, name in enumerate([*words] * seeds):
        target = ovam.Words(photograph(words[name]), words[name])
        image, trace = ours.generate(target.prompt, FIRST_SEED + number, self_attention=True)
        truth = ours.truth(image, name)
        if truth.mean() < CLEAR:
            continue
        for choice, method in METHODS.items():
            mask = ovam.segment(trace, ours.pipeline, target, method).mask
            found[choice, False].append(overlap(mask, truth))
            found[choice, True].append(overlap(ovam.dense_crf(image, mask), truth))
    print(f"{len(found[next(iter(METHODS)), False])} images")
    print("| refinement | IoU | IoU with dense CRF |\n|---|---|---|")
    for choice in METHODS:
        print(f"| {choice} | {np.mean(found[choice, False]):.3f} | {np.mean(found[choice, True]):.3f} |")


if __name__ == "__main__":
    run(main)
