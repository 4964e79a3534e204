"""The bundled model and its world, for the small experiments: images with their traces, and masks that count as true."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

import ovam
from experiments.evaluation.backends.models import guidance_scale_of, loaded
from experiments.evaluation.world import Picture, World, article, world_of
from worker.settings import BUNDLED, BUNDLED_CLIP

ROOT = Path(__file__).resolve().parents[1]
MODEL, CLIP = BUNDLED.relative_to(ROOT), BUNDLED_CLIP.relative_to(ROOT)
STEPS = 30
Mask = NDArray[np.bool_]  # (height, width)


@dataclass(frozen=True, eq=False)
class Bundle:
    """A model and its world."""

    pipeline: StableDiffusionPipeline
    world: World
    guidance_scale: float

    def generate(self, prompt: str, seed: int, *, self_attention: bool = False) -> tuple[Picture, ovam.Trace]:
        """Generate an image and its trace."""
        with ovam.capture(self.pipeline, self_attention=self_attention) as traces:
            image = self.pipeline(
                prompt,
                guidance_scale=self.guidance_scale,
                num_inference_steps=STEPS,
                generator=generator(seed),
            ).images[0]
        return np.asarray(image), traces[0]

    def truth(self, image: Picture, class_name: str) -> Mask:
        """Where the annotator sees a class."""
        return self.world.annotate(image) == self.world.label(class_name)


def generator(seed: int) -> torch.Generator:
    """The randomness of an image, the same on every machine."""
    return torch.Generator().manual_seed(seed)


def photograph(word: str) -> str:
    """The prompt of one thing."""
    return f"a photograph of {article(word)}"


def words_of(world: World, classes: Sequence[str] = ()) -> dict[str, str]:
    """The words of some classes, or of all."""
    return {one.name: one.word for one in world.vocabulary if not classes or one.name in classes}


@cache
def bundle(model: Path = MODEL) -> Bundle:
    """The bundled model, or another one, loaded once."""
    return Bundle(loaded(model), world_of(model), guidance_scale_of(model))
