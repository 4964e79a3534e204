"""Pascal VOC's protocol: one confusion matrix over a whole validation set, IoU by class, their mean; intervals over seeds."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, UInt8
from scipy.stats import t

from experiments.evaluation.scores import Interval
from experiments.networks.examples import CLASSES
from ovam.core.label_maps import IGNORE

Confusion = Int64[np.ndarray, "truth predicted"]
LEVEL = 0.975  # of an interval of 95 %


def confusion(predicted: UInt8[np.ndarray, "..."], truth: UInt8[np.ndarray, "..."]) -> Confusion:
    """How many pixels of which class were taken for which, the background first; pixels of which nobody knows do not count."""
    known = truth != IGNORE
    pairs = CLASSES * truth[known].astype(np.int64) + predicted[known]
    return np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def class_ious(found: Confusion) -> list[float | None]:
    """IoU of every class, the background first; None for one that is neither there nor found."""
    both, either = np.diag(found), found.sum(axis=0) + found.sum(axis=1) - np.diag(found)
    return [float(one / all_) if all_ else None for one, all_ in zip(both, either, strict=True)]


def mean_iou(found: Confusion) -> float:
    """The mean over classes."""
    return float(np.mean([one for one in class_ious(found) if one is not None]))


def over_seeds(values: Sequence[float]) -> Interval:
    """A mean with its 95 % interval by Student's t; one value alone says nothing, so its interval is all that can be."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, -1.0, 1.0)
    half = float(t.ppf(LEVEL, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)
