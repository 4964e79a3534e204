"""The part of a mask that a person points at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ovam.core.masks import regions_of

Mask = Bool[np.ndarray, "height width"]
LEAST_SHARE = 0.5  # of the heat where a person points, that what belongs to it has


@dataclass(frozen=True)
class Place:
    """A point or a box in an image, in its pixels: x, y, width, height; a point is 1 x 1."""

    box: tuple[int, int, int, int]
    wanted: bool = True
    """Or what is there is not part of the object."""

    @property
    def is_point(self) -> bool:
        """Whether it is one pixel."""
        return self.box[2:] == (1, 1)

    def part(self, of: np.ndarray) -> np.ndarray:
        """What of an array is there."""
        x, y, width, height = self.box
        return of[y : y + height, x : x + width]


def place(x: float, y: float, width: float, height: float, size: tuple[int, int], *, wanted: bool = True) -> Place:
    """A place in an image of `size` (height, width), given by fractions of it, moved inside where it is not."""
    rows, columns = size
    left, top = (min(max(int(part * side), 0), side - 1) for part, side in ((x, columns), (y, rows)))
    right, bottom = (
        max(min(round(part * side), side), least)
        for part, side, least in ((x + width, columns, left + 1), (y + height, rows, top + 1))
    )
    return Place((left, top, right - left, bottom - top), wanted)


def guided(mask: Mask, heat: Float[np.ndarray, "height width"], places: Sequence[Place]) -> Mask:
    """The connected regions of a mask where the places are, without those where they say that there is nothing, inside the boxes.

    Where a mask is at none of them, it is what is connected to the hottest pixel of the first place, and at least half as hot.
    """
    wanted = [each for each in places if each.wanted]
    boxes = [each for each in wanted if not each.is_point]
    inside = np.zeros_like(mask) if boxes else np.ones_like(mask)
    for each in boxes:
        each.part(inside)[:] = True
    labels, _ = regions_of(mask & inside, 8)
    kept = touched(labels, wanted) if wanted else {*range(1, int(labels.max()) + 1)}
    if not kept and wanted:
        labels, kept = around(heat, wanted[0], inside)
    kept -= touched(labels, [each for each in places if not each.wanted])
    return np.isin(labels, [*kept])


def touched(labels: Int[np.ndarray, "height width"], places: Sequence[Place]) -> set[int]:
    """The regions at places."""
    return {int(label) for each in places for label in np.unique(each.part(labels))} - {0}


def around(heat: Float[np.ndarray, "height width"], at: Place, inside: Mask) -> tuple[np.ndarray, set[int]]:
    """The region of heat around the hottest pixel of a place, among all regions of that heat."""
    there = np.where(inside, heat, -np.inf)
    part = at.part(there)
    row, column = np.unravel_index(int(part.argmax()), part.shape)
    x, y = at.box[0] + int(column), at.box[1] + int(row)
    if not there[y, x] > 0:
        return np.zeros(heat.shape, np.int32), set()
    labels, _ = regions_of(there >= LEAST_SHARE * there[y, x], 8)
    return labels, {int(labels[y, x])}
