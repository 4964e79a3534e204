"""The images of the evaluation, and the masks that count as true."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import ovam
from experiments.evaluation.datasets import Case
from experiments.evaluation.world import Labels, Picture, World

CLEAR = 0.03  # fraction of the image that the class must cover, else the image is left out

Mask = NDArray[np.bool_]  # (height, width)
Seconds = dict[str, float]


@dataclass(frozen=True, eq=False)
class Truth:
    """What is true of an image."""

    labels: Labels
    """0 is the ground."""
    mask: Mask
    """Where the class is."""
    second: Mask | None = None
    """Where a second annotator sees it, if there is one."""


@dataclass(frozen=True, eq=False)
class Subject:
    """An image under evaluation: its pixels, its truth, and its trace."""

    case: Case
    image: Picture
    truth: Truth
    seconds: Seconds
    """Time of its generation and annotation."""
    trace: ovam.Trace | None = None
    """If it was generated here."""
    job: str = ""
    """Of the service that keeps the trace, if one generated it."""

    @property
    def clear(self) -> bool:
        """Whether there is an object to judge by, and something that is not it."""
        return bool(CLEAR < self.truth.mask.mean() < 1)


def annotation(case: Case, image: Picture, world: World) -> Truth:
    """What is true of a generated image: as its file says, or as the annotators see it."""
    if case.mask:
        with Image.open(case.mask) as file:
            height, width = image.shape[:2]
            mask = np.array(file.convert("L").resize((width, height), Image.Resampling.NEAREST)) > 127
        return Truth(mask.astype(np.uint8), mask)
    label, labels, again = world.label(case.class_name), world.annotate(image), world.annotate_again(image)
    return Truth(labels, labels == label, None if again is None else again == label)


def overlap(one: Mask, other: Mask) -> float:
    """Intersection over union of two masks; 1 for two empty ones."""
    union = int((one | other).sum())
    return 1.0 if union == 0 else int((one & other).sum()) / union


@contextmanager
def clock(seconds: Seconds, stage: str, now: Callable[[], float]) -> Iterator[None]:
    """Add the time spent inside the `with` to a stage."""
    start = now()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + now() - start
