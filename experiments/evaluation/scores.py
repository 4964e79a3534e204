"""From counts of pixels to the figures of the tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
PERCENTILES = (2.5, 97.5)
Counts = NDArray[np.int64]  # (images, 2): pixels of the intersection and of the union


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Score:
    """The mean IoU of a setting on a data set, in [0, 1]."""

    miou: Interval
    by_class: dict[str, float]
    images: int


def mean_iou(counts: Counts, classes: Sequence[str]) -> tuple[float, dict[str, float]]:
    """Mean over classes of the IoU pooled over a class's images (section 4.1), and every class's."""
    names = np.array(classes)
    by_class = {}
    for name in dict.fromkeys(classes):
        both, either = counts[names == name].sum(axis=0)
        by_class[name] = float(both / either) if either else 0.0
    return float(np.mean(list(by_class.values()))), by_class


def resampled(counts: Counts, classes: Sequence[str], seed: int = 0) -> NDArray[np.float64]:
    """The mean IoU of `RESAMPLES` sets, in which every class's images are drawn again.

    One seed draws the same images for every setting, so that two settings may be compared image by image.
    """
    rng = np.random.default_rng(seed)
    names = np.array(classes)
    means = []
    for name in dict.fromkeys(classes):
        mine = counts[names == name]
        times = rng.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), RESAMPLES)
        drawn = times @ mine
        means.append(drawn[:, 0] / np.maximum(drawn[:, 1], 1))
    return np.mean(means, axis=0)


def score(counts: Counts, classes: Sequence[str]) -> Score:
    """The mean IoU of a setting on a set."""
    miou, by_class = mean_iou(counts, classes)
    return Score(interval(miou, resampled(counts, classes)), by_class, len(counts))


def gain(counts: Counts, other: Counts, classes: Sequence[str]) -> Interval:
    """By how much the mean IoU of a setting is higher than that of another on the same images."""
    difference = mean_iou(counts, classes)[0] - mean_iou(other, classes)[0]
    return interval(difference, resampled(counts, classes) - resampled(other, classes))


def interval(value: float, samples: NDArray[np.float64]) -> Interval:
    """A figure with the percentiles of its resamples."""
    low, high = np.percentile(samples, PERCENTILES)
    return Interval(value, float(low), float(high))
