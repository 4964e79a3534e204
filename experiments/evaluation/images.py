"""Making the images of the evaluation with their traces, and the annotator's masks of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

import ovam
from experiments.evaluation.datasets import Case
from experiments.tinyworld.annotator import Annotator

GUIDANCE_SCALE = 3.0
CLEAR = 0.03  # share of the image that the object must cover, else the image is left out

Mask = NDArray[np.bool_]  # (height, width)


@dataclass(frozen=True, eq=False)
class Made:
    """A generated image, what is kept of its generation, and what the annotator painted."""

    case: Case
    image: NDArray[np.uint8]  # (height, width, 3)
    trace: ovam.Trace
    truth: Mask

    @property
    def clear(self) -> bool:
        """Whether there is an object to judge by."""
        return bool(self.truth.mean() > CLEAR)


@dataclass(frozen=True, eq=False)
class Studio:
    """The model and the annotator."""

    pipeline: StableDiffusionPipeline
    annotator: Annotator

    def make(self, cases: Sequence[Case], evaluations: float | None = None) -> list[Made]:
        """Generate images of the same number of steps in one batch, keeping all evaluations or the one at a share."""
        generators = [torch.Generator().manual_seed(case.seed) for case in cases]
        with ovam.capture(self.pipeline, self_attention=True, evaluations=evaluations) as traces:
            answer = self.pipeline(
                [case.prompt for case in cases],
                generator=generators,
                guidance_scale=GUIDANCE_SCALE,
                num_inference_steps=cases[0].steps,
                output_type="np",
            )
        images = (answer.images * 255).round().astype(np.uint8)
        return [
            Made(case, image, trace, self.annotator.mask(image, case.kind))
            for case, image, trace in zip(cases, images, traces, strict=True)
        ]


@cache
def studio(model: Path) -> Studio:
    """The studio of this process, loaded once, single-threaded: several processes share a machine better than threads do."""
    torch.set_num_threads(1)
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    pipeline = StableDiffusionPipeline.from_pretrained(
        model, dtype=torch.float32, local_files_only=True, safety_checker=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return Studio(pipeline, Annotator.load())


def weights_hash(model: Path) -> str:
    """SHA-256 over the model's weight files, in the order of their paths."""
    digest = hashlib.sha256()
    for path in sorted(model.glob("*/*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
