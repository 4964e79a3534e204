"""From heat to a mask (Eq. 8 and 9), and what tidies a mask up."""

from collections.abc import Hashable, Sequence
from typing import Any

import cv2
import numpy as np
from annotated_types import Interval
from jaxtyping import Bool, Float

from ovam.core.arrays import array_of
from ovam.core.methods import Sign
from ovam.core.settings import check_bounds
from ovam.core.thresholds import Normalize, Share, Threshold, min_max, prepared, reaches
from ovam.errors import InvalidArgumentError

WEIGHTS = Interval(ge=0, le=1)


def binarize(
    heatmap: Any,  # noqa: ANN401 - an array or a tensor
    tau: float | Threshold = 0.4,
    *,
    normalize: Normalize = "max",
    attention: Any = None,  # noqa: ANN401 - an array or a tensor
    alpha: float = 0.85,
    sign: Sign = 1,
) -> Bool[np.ndarray, "height width"]:
    """Mark the pixels whose heat reaches the share `tau` of the hottest pixel's (Eq. 9), or another threshold.

    `heatmap` (height, width) is an array or a tensor. `attention` is the image's self-attention map, see
    `ovam.attention.refinement.attention_received`, which weights the heat after a rescaling to [alpha, 1] (Eq. 8). A map
    without heat marks nothing.

    Raises `InvalidArgumentError` for settings out of range and for heat that is negative or not finite.

    >>> ovam.binarize(np.array([[0.1, 0.5, 1.0]]), 0.5).tolist()
    [[False, True, True]]
    """
    if not isinstance(tau, Threshold):
        threshold: Threshold = Share(tau, normalize)
    elif normalize != "max":
        raise InvalidArgumentError("normalize", normalize, "left out beside a threshold, which carries its own")
    else:
        threshold = tau
    heat = prepared(heat_of(heatmap), threshold)
    return reaches(heat if attention is None else weighted(heat, heat_of(attention, "attention"), alpha, sign), threshold)


def weighted(
    heat: Float[np.ndarray, "height width"],
    attention: Float[np.ndarray, "attention_height attention_width"],
    alpha: float,
    sign: Sign = 1,
) -> Float[np.ndarray, "height width"]:
    """Weight heat by a self-attention map, resized to it and rescaled to [alpha, 1] (Eq. 8); `sign=-1` turns the map over."""
    check_bounds("alpha", alpha, WEIGHTS)
    if sign not in (1, -1):
        raise InvalidArgumentError("sign", sign, "1 or -1")
    return heat * (alpha + (1 - alpha) * min_max(sign * resized(attention, (heat.shape[0], heat.shape[1]))))


def score(heat: Float[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"]) -> float:
    """Return how sure a mask is: its mean heat as a fraction of the hottest pixel's, in [0, 1]; 0 for an empty one."""
    return float(heat[mask].mean() / heat.max()) if mask.any() and heat.max() > 0 else 0.0


def leakages(
    heats: Sequence[Float[np.ndarray, "height width"]],
    margins: Sequence[Float[np.ndarray, "height width"]],
    things: Sequence[Hashable],
) -> list[float | None]:
    """Estimate how far each target's heat leaks to the others: 0 told apart, 1 as hot there as on its own place.

    A target's place is where its margin over its threshold is the largest, and at least 0, as in a map of labels. Leakage is the
    mean heat on the others' places over that on its own, both above the mean heat on nobody's place (or the least heat,
    where there is none), in [0, 1]. `None` where a target or all the others have no place. Targets of equal `things` are
    one, looked for in two ways, and have one place.
    """
    winner, taken = np.argmax(margins, axis=0), np.max(margins, axis=0) >= 0
    found: list[float | None] = []
    for heat, thing in zip(heats, things, strict=True):
        own = taken & np.isin(winner, [number for number, other in enumerate(things) if other == thing])
        others = taken & ~own
        if not own.any() or not others.any():
            found.append(None)
            continue
        floor = heat.min() if taken.all() else heat[~taken].mean()
        hot, leaked = float(heat[own].mean() - floor), float(heat[others].mean() - floor)
        found.append(min(1.0, max(0.0, leaked / hot)) if hot > 0 else 1.0)
    return found


def tidied(mask: Bool[np.ndarray, "height width"], minimum_area: int, *, fill_holes: bool) -> Bool[np.ndarray, "height width"]:
    """Drop the small regions of a mask, then fill its holes."""
    large = without_small_regions(mask, minimum_area) if minimum_area > 1 else mask
    return filled(large) if fill_holes else large


def without_small_regions(mask: Bool[np.ndarray, "height width"], minimum_area: int) -> Bool[np.ndarray, "height width"]:
    """Drop the 8-connected regions of fewer than `minimum_area` pixels."""
    labels, areas = regions_of(mask, connectivity=8)
    kept = areas >= minimum_area
    kept[0] = False  # what is not in the mask
    return kept[labels]


def filled(mask: Bool[np.ndarray, "height width"], maximum_area: int | None = None) -> Bool[np.ndarray, "height width"]:
    """Fill the holes of a mask, or those of at most `maximum_area` pixels.

    A hole is a 4-connected region outside of the mask that does not touch the border of the image.
    """
    labels, areas = regions_of(~mask, connectivity=4)
    hole = np.ones(len(areas), dtype=np.bool_)
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        hole[border] = False
    if maximum_area is not None:
        hole &= areas <= maximum_area
    return mask | hole[labels]


def instances(
    mask: Bool[np.ndarray, "height width"], *, minimum_area: int = 1, connectivity: int = 8, most: int | None = None
) -> list[Bool[np.ndarray, "height width"]]:
    """Split a mask into its connected regions of at least `minimum_area` pixels, the largest first, at most `most`."""
    if connectivity not in (4, 8):
        raise InvalidArgumentError("connectivity", connectivity, "4 or 8")
    labels, areas = regions_of(mask, connectivity)
    order = sorted(range(1, len(areas)), key=lambda label: -int(areas[label]))
    return [labels == label for label in order[:most] if areas[label] >= minimum_area]


def regions_of(mask: Bool[np.ndarray, "height width"], connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """Label the connected regions of a mask from 1, 0 being the rest, and count the pixels of each label."""
    if mask.ndim != 2 or mask.size == 0:
        raise InvalidArgumentError("mask", mask.shape, "(height, width), at least one pixel")
    pixels = np.ascontiguousarray(mask, dtype=np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=connectivity)
    return labels, stats[:, cv2.CC_STAT_AREA]


def heat_of(heatmap: Any, name: str = "heatmap") -> Float[np.ndarray, "height width"]:  # noqa: ANN401 - an array or a tensor
    """Return heat as an array of single precision, or double where it is given so.

    Raises `InvalidArgumentError` for heat that is negative, not finite, or not (height, width).
    """
    heat = array_of(heatmap)
    if heat.ndim != 2 or heat.size == 0 or not np.isfinite(heat).all() or heat.min() < 0:
        raise InvalidArgumentError(name, heat.shape, "(height, width), at least one pixel, values finite and at least 0")
    return heat


def resized(maps: Float[np.ndarray, "height width"], size: tuple[int, int]) -> Float[np.ndarray, "new_height new_width"]:
    """Resize a map bilinearly to `size` (height, width), as torch does without aligned corners."""
    if maps.shape == size:
        return maps
    return cv2.resize(maps, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
