"""From counts of pixels to the figures of the tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
Sums = NDArray[np.int64]  # (classes, 2)


@dataclass(frozen=True)
class Score:
    """The mean IoU of a setting on a data set, in [0, 1]."""

    miou: float
    low: float
    high: float
    by_class: dict[str, float]


def mean_iou(counts: NDArray[np.int64], classes: Sequence[str]) -> tuple[float, dict[str, float]]:
    """Mean over classes of the IoU pooled over a class's images (section 4.1), and every class's."""
    kinds = np.array(classes)
    by_class = {}
    for kind in dict.fromkeys(classes):
        both, either = counts[kinds == kind].sum(axis=0)
        by_class[kind] = float(both / either)
    return float(np.mean(list(by_class.values()))), by_class


def score(counts: NDArray[np.int64], classes: Sequence[str], seed: int = 0) -> Score:
    """The mean IoU with a 95 % bootstrap interval over images, drawn again within every class."""
    miou, by_class = mean_iou(counts, classes)
    rng = np.random.default_rng(seed)
    kinds = np.array(classes)
    means = []
    for kind in by_class:
        mine = counts[kinds == kind]
        drawn = mine[rng.integers(0, len(mine), (RESAMPLES, len(mine)))].sum(axis=1)
        means.append(drawn[:, 0] / drawn[:, 1])
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    return Score(miou, float(low), float(high), by_class)
