"""What differs between two images: in the heat of a target, and in their pixels."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, UInt8

from ovam.core.confidence import iou
from ovam.core.pictures import Picture, rgb_of
from ovam.errors import InvalidArgumentError

MORE: Final = np.array((178, 24, 43), np.float32)
LESS: Final = np.array((33, 102, 172), np.float32)
WHITE: Final = np.float32(255)
HIGHEST: Final = 255  # of a pixel


@dataclass(frozen=True, eq=False)
class Difference:
    """How the heat of a target differs between two images: that of the first less that of the second."""

    heat: Float[np.ndarray, "height width"]
    """Signed; the other way round it is the same with the other sign."""
    inside: float | None
    """Its mean on the pixels of either mask; `None` where there are none."""
    outside: float | None
    """Its mean on the other pixels; `None` where there are none."""
    total: float
    """The mean of its size, whatever its sign, on all pixels: 0 only for equal heat."""
    iou: float
    """Of the two masks; 1 for two empty ones."""


def difference(
    heat: Float[np.ndarray, "height width"],
    other: Float[np.ndarray, "other_height other_width"],
    mask: Bool[np.ndarray, "height width"],
    other_mask: Bool[np.ndarray, "other_height other_width"],
) -> Difference:
    """Compare a target's heat and mask in one image with those in another. Raises `InvalidArgumentError` for other sizes.

    >>> hot, cold = np.eye(2), np.zeros((2, 2))
    >>> found = difference(hot, cold, hot > 0, cold > 0)
    >>> found.inside, found.outside, found.total, found.iou
    (1.0, 0.0, 0.5, 0.0)
    """
    if heat.shape != other.shape:
        raise InvalidArgumentError("other", other.shape, f"(height, width) of the first, {heat.shape}")
    change = heat.astype(np.float64) - other
    inside, outside = mean_in(change, mask | other_mask), mean_in(change, ~(mask | other_mask))
    return Difference(change.astype(np.float32), inside, outside, float(np.abs(change).mean()), iou(mask, other_mask))


def diverging(values: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """Show signed values: red above 0, blue below, white at 0, the darkest the largest of either sign.

    >>> diverging(np.array([[-2.0, 0.0, 2.0]])).tolist()
    [[[33, 102, 172], [255, 255, 255], [178, 24, 43]]]
    """
    most = float(np.abs(values).max())
    level = (values / most if most > 0 else np.zeros_like(values)).astype(np.float32)[..., None]
    return np.rint(WHITE + np.abs(level) * (np.where(level > 0, MORE, LESS) - WHITE)).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Change:
    """How the pixels of an image changed: 0 not at all, 1 from black to white."""

    size: Float[np.ndarray, "height width"]
    """The mean of the three colours' absolute differences."""
    inside: float | None
    """Its mean in the mask; `None` for an empty one."""
    outside: float | None
    """Its mean elsewhere; `None` where there is nothing else."""


def changed(before: Picture, after: Picture, mask: Bool[np.ndarray, "height width"]) -> Change:
    """Compare the pixels of two images inside and outside of a mask. Raises `InvalidArgumentError` for other sizes."""
    first, second = rgb_of(before), rgb_of(after)
    if first.shape != second.shape or first.shape[:2] != mask.shape:
        raise InvalidArgumentError("after", second.shape[:2], f"(height, width) of the other and of the mask, {mask.shape}")
    size = np.abs(first.astype(np.float32) - second).mean(axis=2) / HIGHEST
    return Change(size, mean_in(size, mask), mean_in(size, ~mask))


def mean_in(values: Float[np.ndarray, "height width"], where: Bool[np.ndarray, "height width"]) -> float | None:
    """Return the mean of some pixels; `None` for none."""
    return float(values[where].mean(dtype=np.float64)) if where.any() else None
