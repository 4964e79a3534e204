"""How sure a mask is: how far masks from halves of the attention agree with it, and what IoU that lets expect."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
from annotated_types import Interval
from jaxtyping import Bool

from ovam.core.settings import Checked
from ovam.errors import InvalidArgumentError

Fraction = Annotated[float, Interval(ge=0, le=1)]


@dataclass(frozen=True)
class Calibration(Checked):
    """What IoU with the true mask to expect at an agreement: lines between points that rise, level before and after them."""

    agreement: Sequence[Fraction]
    """Of the points, rising."""
    iou: Sequence[Fraction]
    """Expected there, never falling."""

    def __post_init__(self) -> None:
        """Raise `InvalidArgumentError` for points that are none or do not rise."""
        super().__post_init__()
        if not 0 < len(self.agreement) == len(self.iou):
            raise InvalidArgumentError("iou", len(self.iou), f"as many as `agreement` has, {len(self.agreement)}, at least one")
        if any(first >= second for first, second in pairwise(self.agreement)):
            raise InvalidArgumentError("agreement", self.agreement, "rising numbers")
        if any(first > second for first, second in pairwise(self.iou)):
            raise InvalidArgumentError("iou", self.iou, "numbers that do not fall")

    def iou_at(self, agreement: float) -> float:
        """Return the IoU to expect.

        >>> expected = Calibration(agreement=(0.5, 0.9), iou=(0.2, 0.8))
        >>> expected.iou_at(0.7), expected.iou_at(1.0)
        (0.5, 0.8)
        """
        return round(float(np.interp(agreement, self.agreement, self.iou)), 6)


@dataclass(frozen=True)
class Confidence(Checked):
    """How sure a mask is."""

    value: Fraction
    """The IoU with the true mask that is to be expected, 0..1, where that is `calibrated`; else the `agreement`, which orders
    masks by how sure they are but is no IoU to expect."""
    agreement: Fraction
    """Mean IoU of the mask with those of halves of its evaluations, heads and blocks: 1 if all agree, 0 for an empty mask."""
    calibrated: bool
    """Whether agreements of this model, with these very settings, were compared with true masks."""


def confidence_of(
    whole: Bool[np.ndarray, "height width"],
    halves: Sequence[Bool[np.ndarray, "height width"]],
    calibration: Calibration | None = None,
) -> Confidence | None:
    """Say how sure a mask is, from the masks of the halves of its attention; `None` where a single map has no halves."""
    if not halves:
        return None
    agreement = float(np.mean([iou(half, whole) for half in halves])) if whole.any() else 0.0
    if calibration is None:
        return Confidence(agreement, agreement, calibrated=False)
    return Confidence(calibration.iou_at(agreement) if whole.any() else 0.0, agreement, calibrated=True)


def iou(one: Bool[np.ndarray, "height width"], other: Bool[np.ndarray, "height width"]) -> float:
    """Return two masks' intersection over their union; 1 for two empty ones."""
    union = np.count_nonzero(one | other)
    return float(np.count_nonzero(one & other) / union) if union else 1.0


def calibrated(agreements: Sequence[float], ious: Sequence[float], *, points: int = 12) -> Calibration:
    """Fit a calibration to agreements and the IoUs of the same masks with true ones: the best rising curve, in few points.

    Isotonic regression (the pools of adjacent violators), read at the middle of groups of equally many masks.

    >>> calibrated([0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.3, 0.9], points=4).iou
    (0.0, 0.4, 0.4, 0.9)
    """
    order = np.argsort(agreements, kind="stable")
    where, level = np.asarray(agreements, float)[order], rising(np.asarray(ious, float)[order])
    found: dict[float, float] = {}
    for group in np.array_split(np.arange(len(where)), min(points, len(where))):
        found[round(float(where[group].mean()), 4)] = round(float(level[group].mean()), 4)
    return Calibration(tuple(found), tuple(found.values()))


def rising(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the values that never fall and are closest to `values` by squares: isotonic regression."""
    pools: list[tuple[float, int]] = []
    for value in values:
        pools.append((float(value), 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (right, many), (left, count) = pools.pop(), pools.pop()
            pools.append(((left * count + right * many) / (count + many), count + many))
    return np.repeat([mean for mean, _ in pools], [count for _, count in pools])
