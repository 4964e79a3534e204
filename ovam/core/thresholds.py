"""Where heat is cut, as values: at a share of the hottest pixel, at a level, or where two groups part best."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Interval
from jaxtyping import Bool, Float

from ovam.core.settings import Checked

Normalize = Literal["max", "minmax"]


@dataclass(frozen=True)
class Share(Checked):
    """Inside is what reaches a share of the hottest pixel's heat (Eq. 9)."""

    tau: Annotated[float, Interval(gt=0, le=1)] = 0.4
    """The share, above 0, at most 1."""
    normalize: Normalize = "max"
    """`minmax` first moves the coolest pixel to 0, for maps with a high floor."""
    kind: Literal["share"] = "share"


@dataclass(frozen=True)
class Absolute(Checked):
    """Inside is what reaches a level."""

    level: Annotated[float, Interval(ge=0, lt=float("inf"))]
    """In the heatmap's own unit: a probability for reduction `mean`."""
    kind: Literal["absolute"] = "absolute"


@dataclass(frozen=True)
class Otsu(Checked):
    """Inside is the hotter of the two groups whose means differ most (Otsu's criterion, over all cuts)."""

    kind: Literal["otsu"] = "otsu"


Threshold = Share | Absolute | Otsu


def prepared(heat: Float[np.ndarray, "height width"], threshold: Threshold) -> Float[np.ndarray, "height width"]:
    """Bring heat to what a threshold cuts: stretched to [0, 1] where it asks for min-max, else as it is."""
    return min_max(heat) if isinstance(threshold, Share) and threshold.normalize == "minmax" else heat


def level_of(heat: Float[np.ndarray, "height width"], threshold: Threshold) -> float:
    """Return the least heat that counts as inside; infinite when nothing does. `heat` comes `prepared`.

    A map without heat has no inside, nor has a constant one for Otsu.
    """
    hottest = float(heat.max())
    if hottest <= 0:
        return float("inf")
    match threshold:
        case Share(tau=tau):
            return tau * hottest
        case Absolute(level=level):
            return level
        case Otsu():
            return otsu(heat)


def reaches(heat: Float[np.ndarray, "height width"], threshold: Threshold) -> Bool[np.ndarray, "height width"]:
    """Mark the pixels whose `prepared` heat reaches the threshold."""
    # compared in the heat's own precision, so that the hottest pixel reaches a share of 1
    return heat >= np.asarray(level_of(heat, threshold), dtype=heat.dtype)


def min_max(values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Stretch values to [0, 1]; constant ones become 0."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def otsu(heat: Float[np.ndarray, "height width"]) -> float:
    """Return the least value of the hotter group where the variance between the groups is greatest.

    Every cut between different values is tried, instead of a histogram's; of equally good ones the lowest wins.
    """
    values = np.sort(heat, axis=None).astype(np.float64)
    count = values.size
    below = np.arange(1, count, dtype=np.float64)
    sums = values.cumsum()
    lower = sums[:-1] / below
    upper = (sums[-1] - sums[:-1]) / (count - below)
    between = below * (count - below) * np.square(upper - lower)
    between[values[1:] == values[:-1]] = -1
    if count < 2 or between.max() <= 0:
        return float("inf")
    return float(values[1 + int(between.argmax())])
