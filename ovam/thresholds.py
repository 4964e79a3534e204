"""Where a heatmap is cut, as values: relative to its hottest pixel, at a level, or where two groups part."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ovam.errors import InvalidArgumentError

Normalize = Literal["max", "minmax"]


@dataclass(frozen=True)
class ShareOfMaximum:
    """Inside is what reaches the share ``tau`` of the hottest pixel (Eq. 9).

    ``normalize="minmax"`` first moves the coolest pixel to 0, for maps with a high floor.
    """

    tau: float = 0.4
    normalize: Normalize = "max"

    def __post_init__(self) -> None:
        """Refuse a share outside [0, 1]."""
        if not 0 <= self.tau <= 1:
            raise InvalidArgumentError("tau", self.tau, "0 to 1")
        if self.normalize not in get_args(Normalize):
            raise InvalidArgumentError("normalize", self.normalize, "'max' or 'minmax'")


@dataclass(frozen=True)
class Absolute:
    """Inside is what reaches ``level``, in the heatmap's own unit: a probability for a mean heatmap."""

    level: float

    def __post_init__(self) -> None:
        """Refuse a level that is negative or no number."""
        if not 0 <= self.level < float("inf"):
            raise InvalidArgumentError("level", self.level, "0 or more, finite")


@dataclass(frozen=True)
class Otsu:
    """Inside is the hotter of the two groups whose means differ most, by Otsu's criterion over all cuts."""


Threshold = ShareOfMaximum | Absolute | Otsu


def level_of(heat: Float[Tensor, "height width"], threshold: Threshold) -> float:
    """Find the least heat that a threshold takes for inside; infinite when nothing can be.

    A map without heat has no inside, nor has a constant one for Otsu. Shares are of the maximum of
    ``heat`` as it is: who wants min-max stretches it before.
    """
    hottest = float(heat.max())
    if hottest <= 0:
        return float("inf")
    match threshold:
        case ShareOfMaximum(tau=tau):
            return float(tau * heat.max())
        case Absolute(level=level):
            return level
        case Otsu():
            return _otsu(heat)


def reaches(heat: Float[Tensor, "height width"], threshold: Threshold) -> Bool[Tensor, "height width"]:
    """Mark the pixels that are as hot as the threshold asks."""
    return heat >= level_of(heat, threshold)


def min_max(values: Float[Tensor, "height width"]) -> Float[Tensor, "height width"]:
    """Stretch values to [0, 1]; constant ones become 0."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else values * 0


def _otsu(heat: Float[Tensor, "height width"]) -> float:
    """Find the least value of the upper group where the variance between the groups is greatest.

    All cuts between different values are tried, instead of a histogram's; of equally good ones the lowest.
    """
    values = heat.detach().flatten().double().sort().values
    count = values.numel()
    below = torch.arange(1, count, dtype=torch.float64, device=values.device)
    sums = values.cumsum(dim=0)
    lower = sums[:-1] / below
    upper = (sums[-1] - sums[:-1]) / (count - below)
    between = below * (count - below) * (upper - lower).square()
    between[values[1:] == values[:-1]] = -1
    if count < 2 or float(between.max()) <= 0:
        return float("inf")
    return float(values[1 + int(between.argmax())])
