"""Making the images of the evaluation with their traces, and the masks that count as true."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

import ovam
from experiments.evaluation.datasets import Case, render
from experiments.tinyworld import annotator as annotating
from experiments.tinyworld.annotator import Annotator
from experiments.tinyworld.shapes import CLASS_NAMES
from ovam.trace import Half

GUIDANCE_SCALE = 3.0
CLEAR = {"generated": 0.03, "things": 0.03, "parts": 0.004, "grounds": 0.03}
"""Share of the image that what is looked for must cover, else the image is left out."""

Mask = NDArray[np.bool_]  # (height, width)
Labels = NDArray[np.uint8]  # (height, width): 0 the ground, k+1 class k
Seconds = dict[str, float]


@dataclass(frozen=True, eq=False)
class Made:
    """An image, what was kept of how the UNet looked at it, and what is true of it."""

    case: Case
    image: NDArray[np.uint8]  # (height, width, 3)
    traces: dict[Half, ovam.Trace]
    labels: Labels
    truth: Mask
    seconds: Seconds = field(default_factory=dict)
    """Time of its generation and annotation."""
    job: str = ""
    """The job of the service that made it, if one did."""

    @property
    def trace(self) -> ovam.Trace:
        """The conditional half's."""
        return self.traces["conditional"]

    @property
    def clear(self) -> bool:
        """Whether there is an object to judge by, and something that is not it."""
        return bool(CLEAR[self.case.group] < self.truth.mean() < 1)


class Maker(Protocol):
    """Whatever makes images."""

    def make(self, cases: Sequence[Case], *, both_halves: bool = False) -> list[Made]:
        """Make the images of cases of one source and one number of steps."""
        ...


@dataclass(frozen=True, eq=False)
class Studio:
    """The model and the annotator."""

    pipeline: StableDiffusionPipeline
    annotator: Annotator

    def make(self, cases: Sequence[Case], *, both_halves: bool = False) -> list[Made]:
        """Make the images of cases of one source and one number of steps."""
        if cases[0].source == "render":
            return list(self._looked_at(cases))
        return self._generated(cases, both_halves=both_halves)

    def _generated(self, cases: Sequence[Case], *, both_halves: bool) -> list[Made]:
        """Generate in one batch, and let the annotator paint."""
        seconds: Seconds = {}
        with clock(seconds, "generation"):
            images, kept, left = self._batch(cases, both_halves=both_halves)
        with clock(seconds, "annotation"):
            labels = self.annotator.labels(images)
        share = {stage: spent / len(cases) for stage, spent in seconds.items()}
        made = []
        for index, case in enumerate(cases):
            traces: dict[Half, ovam.Trace] = {"conditional": kept[index]}
            if both_halves:
                traces["unconditional"] = left[index]
            made.append(Made(case, images[index], traces, labels[index], mask_of_kind(labels[index], case.kind), share))
        return made

    def _batch(self, cases: Sequence[Case], *, both_halves: bool) -> tuple[NDArray[np.uint8], list[ovam.Trace], list[ovam.Trace]]:
        """Images (n, height, width, 3) and the traces of their conditional and unconditional halves."""
        options = {"guidance_scale": GUIDANCE_SCALE, "num_inference_steps": cases[0].steps, "output_type": "np"}
        generators = [torch.Generator().manual_seed(case.seed) for case in cases]
        prompts = [case.prompt for case in cases]
        left: list[ovam.Trace] = []
        with ovam.capture(self.pipeline, self_attention=True) as kept:
            if both_halves:
                with ovam.capture(self.pipeline, half="unconditional") as left:
                    answer = self.pipeline(prompts, generator=generators, **options)
            else:
                answer = self.pipeline(prompts, generator=generators, **options)
        return (answer.images * 255).round().astype(np.uint8), kept, left

    def _looked_at(self, cases: Sequence[Case]) -> Iterator[Made]:
        """Let the UNet look at renders, once at each; their masks are exact."""
        traces: dict[int, ovam.Trace] = {}
        for case in cases:
            seconds: Seconds = {}
            drawing = render(case.seed)
            if case.seed not in traces:
                with clock(seconds, "generation"):
                    traces = {case.seed: ovam.trace_image(self.pipeline, drawing.image, self_attention=True)}
            match case.group:
                case "parts":
                    truth = drawing.parts[case.kind]
                case "grounds":
                    truth = drawing.labels() == 0
                case _:
                    truth = drawing.of_class(case.kind)
            yield Made(case, drawing.image, {"conditional": traces[case.seed]}, drawing.labels(), truth, seconds)


def mask_of_kind(labels: Labels, kind: str) -> Mask:
    """Where the annotator saw a class."""
    return labels == CLASS_NAMES.index(kind) + 1


@contextmanager
def clock(seconds: Seconds, stage: str) -> Iterator[None]:
    """Add the CPU time spent inside the `with` to a stage."""
    start = time.process_time()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.process_time() - start


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
    return _hash(sorted(model.glob("*/*.safetensors")))


def annotator_hash() -> str:
    """SHA-256 of the annotator's weights."""
    return _hash(sorted(annotating.FOLDER.glob("*.safetensors")))


def _hash(files: Sequence[Path]) -> str:
    """SHA-256 over files."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()
