"""From a heatmap to a binary mask (Eq. 8 and 9), and what tidies one up."""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ovam.attention import resize
from ovam.errors import InvalidArgumentError
from ovam.thresholds import Normalize, ShareOfMaximum, Threshold, min_max, reaches

__all__ = [
    "Normalize",
    "binarize",
    "fill_holes",
    "min_max",
    "remove_small",
    "rescaled",
    "score",
    "stretched_and_weighed",
    "weighed",
]

MORE, LESS = 1, -1
"""The signs of Eq. 8: more heat, or less, for pixels that receive much attention."""


def binarize(
    heatmap: Float[Tensor, "height width"],
    tau: float | Threshold = 0.4,
    *,
    attention: Float[Tensor, "attention_height attention_width"] | None = None,
    alpha: float = 0.85,
    sign: int = MORE,
    normalize: Normalize = "max",
) -> Bool[Tensor, "height width"]:
    """Mark the pixels whose heat reaches the share ``tau`` of the hottest pixel's (Eq. 9), or another threshold.

    ``attention`` is the image's self-attention map, see `ovam.attention_received`, which weighs the heat
    after a rescaling to [alpha, 1] (Eq. 8), upside down with ``sign=-1``; it is resized to the heatmap.
    ``normalize="minmax"`` first moves the heatmap's coolest pixel to 0, for maps with a high floor; a
    threshold given as a value carries its own. A map without heat, or a constant one after min-max, marks
    nothing.

    Raises `InvalidArgumentError` for ``tau`` or ``alpha`` outside [0, 1] and for heat that is negative or
    no number.
    """
    if isinstance(tau, Threshold):
        if normalize != "max":
            raise InvalidArgumentError("normalize", normalize, "left out beside a threshold, which carries its own")
        threshold = tau
    else:
        threshold = ShareOfMaximum(tau, normalize)
    return reaches(stretched_and_weighed(heatmap, threshold, attention=attention, alpha=alpha, sign=sign), threshold)


def stretched_and_weighed(
    heatmap: Float[Tensor, "height width"],
    threshold: Threshold,
    *,
    attention: Float[Tensor, "attention_height attention_width"] | None = None,
    alpha: float = 0.85,
    sign: int = MORE,
) -> Float[Tensor, "height width"]:
    """Bring heat to what a threshold cuts: min-max where it asks for that, then the weights of Eq. 8, see `binarize`."""
    _check_weights(alpha, sign)
    heat = checked(heatmap)
    if isinstance(threshold, ShareOfMaximum) and threshold.normalize == "minmax":
        heat = min_max(heat)
    return heat if attention is None else weighed(heat, attention, alpha, sign)


def weighed(
    heat: Float[Tensor, "height width"],
    attention: Float[Tensor, "attention_height attention_width"],
    alpha: float,
    sign: int = MORE,
) -> Float[Tensor, "height width"]:
    """Weigh heat by a self-attention map that is resized to it and rescaled to [alpha, 1] (Eq. 8)."""
    size = (heat.shape[0], heat.shape[1])
    return heat * rescaled(resize(attention[None].to(heat), size)[0], alpha, sign)


def rescaled(attention: Float[Tensor, "height width"], alpha: float, sign: int = MORE) -> Float[Tensor, "height width"]:
    """Stretch a self-attention map to [alpha, 1] (Eq. 8); with ``sign=-1`` the largest value becomes alpha."""
    _check_weights(alpha, sign)
    return alpha + (1 - alpha) * min_max(sign * attention)


def score(heatmap: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"]) -> float:
    """Say how sure a mask is: its mean heat as a share of the hottest pixel's, in [0, 1]; 0 when empty."""
    heat = checked(heatmap)
    if not bool(mask.any()) or float(heat.max()) == 0:
        return 0.0
    return float(heat[mask].mean() / heat.max())


def remove_small(mask: Bool[Tensor, "height width"], minimum_area: int) -> Bool[Tensor, "height width"]:
    """Drop the 8-connected regions of fewer than ``minimum_area`` pixels."""
    if minimum_area < 0:
        raise InvalidArgumentError("minimum_area", minimum_area, "0 or more pixels")
    labels, stats = _regions(mask, connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= minimum_area
    kept[0] = False  # what is not in the mask
    return torch.from_numpy(kept[labels]).to(mask.device)


def fill_holes(mask: Bool[Tensor, "height width"], maximum_area: int | None = None) -> Bool[Tensor, "height width"]:
    """Fill the holes of a mask, or those of at most ``maximum_area`` pixels.

    A hole is a 4-connected region outside of the mask that does not touch the border of the image.
    """
    if maximum_area is not None and maximum_area < 0:
        raise InvalidArgumentError("maximum_area", maximum_area, "0 or more pixels")
    labels, stats = _regions(~mask, connectivity=4)
    hole = np.ones(len(stats), dtype=np.bool_)
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        hole[border] = False
    if maximum_area is not None:
        hole &= stats[:, cv2.CC_STAT_AREA] <= maximum_area
    hole[0] = False  # the mask itself
    return mask | torch.from_numpy(hole[labels]).to(mask.device)


def checked(heatmap: Tensor) -> Tensor:
    """Refuse heat that is negative, no number, or of no pixel."""
    if heatmap.numel() == 0 or not bool(heatmap.isfinite().all()) or float(heatmap.min()) < 0:
        raise InvalidArgumentError("heatmap", tuple(heatmap.shape), "at least one pixel, values finite and at least 0")
    return heatmap


def _check_weights(alpha: float, sign: int) -> None:
    """Refuse weights outside [0, 1]."""
    if not 0 <= alpha <= 1:
        raise InvalidArgumentError("alpha", alpha, "0 to 1")
    if sign not in (MORE, LESS):
        raise InvalidArgumentError("sign", sign, f"{MORE} or {LESS}")


def _regions(mask: Bool[Tensor, "height width"], connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """Label the connected regions of a mask from 1, and measure them; 0 is the rest."""
    if mask.ndim != 2 or mask.numel() == 0:
        raise InvalidArgumentError("mask", tuple(mask.shape), "(height, width), at least one pixel")
    pixels = np.ascontiguousarray(mask.cpu().numpy(), dtype=np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=connectivity)
    return labels, stats
