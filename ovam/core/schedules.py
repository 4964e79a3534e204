"""How a learning rate falls, as values."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from ovam.core.settings import Checked


@dataclass(frozen=True)
class Constant(Checked):
    """The rate stays."""

    kind: Literal["constant"] = "constant"


@dataclass(frozen=True)
class Step(Checked):
    """The rate is multiplied by a factor every so many epochs; the defaults are those of the authors' script."""

    every: Annotated[int, Interval(ge=1, le=100_000)] = 120
    """Epochs between two falls."""
    factor: Annotated[float, Interval(gt=0, le=1)] = 0.7
    """What the rate is multiplied by."""
    kind: Literal["step"] = "step"


@dataclass(frozen=True)
class Cosine(Checked):
    """The rate falls along half a cosine."""

    floor: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """The rate of the last epoch, as a fraction of the first one's."""
    kind: Literal["cosine"] = "cosine"


Schedule = Constant | Step | Cosine


def decay(schedule: Schedule, epoch: int, epochs: int) -> float:
    """Return the factor on the learning rate at an epoch, counted from 0.

    >>> decay(Step(every=100, factor=0.5), epoch=250, epochs=500)
    0.25
    """
    match schedule:
        case Constant():
            return 1.0
        case Step(every=every, factor=factor):
            return factor ** (epoch // every)
        case Cosine(floor=floor):
            return floor + (1 - floor) * (1 + math.cos(math.pi * epoch / max(1, epochs - 1))) / 2
