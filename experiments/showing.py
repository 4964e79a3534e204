"""What pictures of the method are made of: images of the bundled model with their traces, heatmaps and masks as cells."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

import ovam
from experiments.client import overlap
from experiments.figures import Cell
from experiments.tinyworld.annotator import Annotator

MODEL = Path("models/tiny")
SIZE = (64, 64)
GUIDANCE = 3.0
PLAIN = "a photograph of a {}"
CUT = ovam.ShareOfMaximum(0.5, "minmax")  # the bundled model's own for plain words

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Shown:
    """A generated image, its traces of both halves, and what the annotator sees in it."""

    image: NDArray[np.uint8]
    trace: ovam.Trace
    against: ovam.Trace

    def truth(self, name: str) -> Mask:
        """Where the annotator sees a class."""
        return annotator().mask(self.image, name)


@cache
def pipeline() -> StableDiffusionPipeline:
    """The bundled model."""
    loaded = StableDiffusionPipeline.from_pretrained(MODEL, dtype=torch.float32, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@cache
def annotator() -> Annotator:
    """Who paints the masks that are compared with."""
    return Annotator.load()


@cache
def shown(prompt: str, seed: int, negative_prompt: str = "") -> Shown:
    """One image, with everything kept."""
    everything: dict[str, Any] = {"mid_block": True, "self_attention": True}
    with ovam.capture(pipeline(), half="unconditional", mid_block=True) as against, ovam.capture(pipeline(), **everything) as to:
        image = pipeline()(
            prompt,
            negative_prompt=negative_prompt,
            guidance_scale=GUIDANCE,
            num_inference_steps=30,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
    return Shown(np.asarray(image), to[0], against[0])


def heat_of(trace: ovam.Trace, word: str, prompt: str | None = None, **choices: Any) -> torch.Tensor:  # noqa: ANN401
    """A word's heatmap at the image's size, without the mid block unless it is chosen."""
    settings: dict[str, Any] = {"blocks": ["down", "up"], "size": SIZE} | choices
    return ovam.word_heatmap(trace, pipeline(), prompt or PLAIN.format(word), word, **settings)


def hot(label: str, heat: torch.Tensor) -> Cell:
    """A heatmap, coolest pixel dark and hottest bright, with its range in the label."""
    low, high = float(heat.min()), float(heat.max())
    share = (heat - low) / (high - low) if high > low else heat * 0
    return Cell(f"{label}, {low:.2f}-{high:.2f}", (share * 255).round().byte().numpy(), heat=True)


def solid(label: str, mask: torch.Tensor | Mask, truth: Mask | None = None) -> Cell:
    """A mask, with its IoU where truth is known."""
    pixels = np.asarray(mask)
    note = "" if truth is None else f"  IoU {overlap(pixels, truth):.2f}"
    return Cell(f"{label}{note}", pixels.astype(np.uint8) * 255)


def cut(heat: torch.Tensor, rule: Any = CUT, **options: Any) -> torch.Tensor:  # noqa: ANN401
    """A heatmap's mask."""
    return ovam.binarize(heat, rule, **options)
