"""Does self-attention help a mask, and which way up? `python -m experiments.refinement` measures it on the bundled model.

Masks of "a photograph of a <class>" in images of one thing, held against the annotator's. Seeds for tuning: the figures
compare choices, and do not say how good they are elsewhere.
"""

from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from diffusers import StableDiffusionPipeline

import ovam
from experiments.client import overlap
from experiments.tinyworld.annotator import Annotator
from experiments.tinyworld.shapes import CLASS_NAMES

FIRST_SEED = 50_000
GUIDANCE = 3.0
STEPS = 30
ENOUGH = 0.03  # share of the image
PLAIN = {"normalize": "minmax", "tau": 0.5}
CHOICES: dict[str, dict[str, Any]] = {"the heat as it is": {}}
CHOICES |= {
    f"attention received, alpha {alpha:g}, sign {sign:+d}": {"refine": "attention", "alpha": alpha, "sign": sign}
    for alpha in (0.85, 0.5)
    for sign in (1, -1)
}
CHOICES |= {f"affinity, {steps} steps": {"refine": "affinity", "affinity_steps": steps} for steps in (1, 2, 3, 4)}
METHODS = {name: ovam.method("daam", PLAIN | settings) for name, settings in CHOICES.items()}


def main(
    model: Annotated[Path, typer.Option(help="the pipeline")] = Path("models/tiny"),
    seeds: Annotated[int, typer.Option(min=1, help="images a class")] = 5,
) -> None:
    """Print the mean IoU of every choice, with and without the dense CRF."""
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    annotator, found = Annotator.load(), defaultdict[tuple[str, bool], list[float]](list)
    for number, name in enumerate(CLASS_NAMES * seeds):
        prompt, generator = f"a photograph of a {name}", torch.Generator().manual_seed(FIRST_SEED + number)
        with ovam.capture(pipeline, self_attention=True) as traces:
            picture = pipeline(prompt, guidance_scale=GUIDANCE, num_inference_steps=STEPS, generator=generator).images[0]
        image = np.asarray(picture)
        truth = annotator.mask(image, name)
        if truth.mean() < ENOUGH:
            continue
        heat = ovam.word_heatmap(traces[0], pipeline, prompt, name)
        for choice, method in METHODS.items():
            mask = ovam.mask_of(method, heat, image, traces[0].self_attention)
            found[choice, False].append(overlap(mask, truth))
            found[choice, True].append(overlap(ovam.dense_crf(image, mask), truth))
    print(f"{len(found['the heat as it is', False])} images")
    print("| refinement | IoU | IoU with dense CRF |\n|---|---|---|")
    for choice in METHODS:
        print(f"| {choice} | {np.mean(found[choice, False]):.3f} | {np.mean(found[choice, True]):.3f} |")


if __name__ == "__main__":
    typer.run(main)
