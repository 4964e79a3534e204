"""How a learning rate falls, as values."""

import math
from dataclasses import dataclass

from ovam.errors import InvalidArgumentError


@dataclass(frozen=True)
class Constant:
    """The rate stays."""


@dataclass(frozen=True)
class StepDecay:
    """The rate is multiplied by ``factor`` after every ``every`` epochs; the defaults are the authors' script's."""

    every: int = 120
    factor: float = 0.7

    def __post_init__(self) -> None:
        """Refuse what does not fall."""
        if self.every < 1:
            raise InvalidArgumentError("every", self.every, "1 or more epochs")
        if not 0 < self.factor <= 1:
            raise InvalidArgumentError("factor", self.factor, "above 0, at most 1")


@dataclass(frozen=True)
class Cosine:
    """The rate falls along half a cosine to the share ``floor`` of itself at the last epoch."""

    floor: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a share outside [0, 1]."""
        if not 0 <= self.floor <= 1:
            raise InvalidArgumentError("floor", self.floor, "0 to 1")


Schedule = Constant | StepDecay | Cosine


def share_of_rate(schedule: Schedule, epoch: int, epochs: int) -> float:
    """Say which share of the learning rate an epoch, counted from 0, is taken with."""
    match schedule:
        case Constant():
            return 1.0
        case StepDecay(every=every, factor=factor):
            return factor ** (epoch // every)
        case Cosine(floor=floor):
            return floor + (1 - floor) * (1 + math.cos(math.pi * epoch / max(1, epochs - 1))) / 2
