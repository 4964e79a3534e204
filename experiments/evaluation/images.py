"""The images of the evaluation, and the masks that count as true."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import ovam
from experiments.evaluation.datasets import Case
from experiments.tinyworld import annotator as annotating
from experiments.tinyworld.annotator import Annotator
from experiments.tinyworld.scene import Drawing
from experiments.tinyworld.shapes import CLASS_NAMES
from ovam.trace import Half

CLEAR = {"generated": 0.03, "things": 0.03, "parts": 0.004, "grounds": 0.03}
"""Share of the image that what is looked for must cover, else the image is left out."""

WEIGHTS = (".safetensors", ".bin")
PART = 1 << 24  # bytes of a file that are read at a time

Picture = NDArray[np.uint8]  # (height, width, 3)
Mask = NDArray[np.bool_]  # (height, width)
Labels = NDArray[np.uint8]  # (height, width): 0 the ground, k+1 class k
Seconds = dict[str, float]


@dataclass(frozen=True, eq=False)
class Made:
    """An image, what was kept of how the UNet looked at it, and what is true of it."""

    case: Case
    image: Picture
    labels: Labels
    truth: Mask
    seconds: Seconds
    """Time of its generation and annotation."""
    traces: Mapping[Half, ovam.Trace] = field(default_factory=dict)
    """If it was made here."""
    jobs: Mapping[Half, str] = field(default_factory=dict)
    """Of the service that keeps the traces, if one made it."""

    @property
    def trace(self) -> ovam.Trace:
        """The conditional half's."""
        return self.traces["conditional"]

    @property
    def clear(self) -> bool:
        """Whether there is an object to judge by, and something that is not it."""
        return bool(CLEAR[self.case.group] < self.truth.mean() < 1)


@cache
def annotator() -> Annotator:
    """The annotator of this process."""
    return Annotator.load()


def annotation(case: Case, image: Picture) -> tuple[Labels, Mask]:
    """The labels of an image, and where what is looked for is: as its file says, or as the annotator sees it."""
    if case.mask:
        with Image.open(case.mask) as file:
            height, width = image.shape[:2]
            mask = np.array(file.convert("L").resize((width, height), Image.Resampling.NEAREST)) > 127
        return mask.astype(np.uint8), mask
    labels = annotator().labels(image[None])[0]
    return labels, labels == CLASS_NAMES.index(case.kind) + 1


def drawn(case: Case, drawing: Drawing) -> tuple[Labels, Mask]:
    """The labels of a render, and where what is looked for is; both are exact."""
    match case.group:
        case "parts":
            truth = drawing.parts[case.kind]
        case "grounds":
            truth = drawing.labels() == 0
        case _:
            truth = drawing.of_class(case.kind)
    return drawing.labels(), truth


@contextmanager
def clock(seconds: Seconds, stage: str, now: Callable[[], float]) -> Iterator[None]:
    """Add the time spent inside the `with` to a stage."""
    start = now()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + now() - start


def weights_hash(model: Path) -> str:
    """SHA-256 over the model's weight files, in the order of their paths."""
    return _hash(sorted(path for path in model.glob("*/*") if path.suffix in WEIGHTS))


def annotator_hash() -> str:
    """SHA-256 of the annotator's weights."""
    return _hash(sorted(annotating.FOLDER.glob("*.safetensors")))


def _hash(files: Sequence[Path]) -> str:
    """SHA-256 over files."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while part := file.read(PART):
                digest.update(part)
    return digest.hexdigest()
