"""From a heatmap to a binary mask (Eq. 8 and 9)."""

from typing import Literal, get_args

from jaxtyping import Bool, Float
from torch import Tensor

from ovam.errors import InvalidArgumentError
from ovam.heatmaps import resize

Normalize = Literal["max", "minmax"]


def binarize(
    heatmap: Float[Tensor, "height width"],
    tau: float = 0.4,
    *,
    attention: Float[Tensor, "attention_height attention_width"] | None = None,
    alpha: float = 0.85,
    normalize: Normalize = "max",
) -> Bool[Tensor, "height width"]:
    """Mark the pixels whose heat reaches the share ``tau`` of the hottest pixel's (Eq. 9).

    ``attention`` is the image's self-attention map, which weighs the heat after a rescaling to [alpha, 1]
    (Eq. 8); it is resized to the heatmap. ``normalize="minmax"`` first moves the heatmap's coolest pixel
    to 0, for maps with a high floor. A map without heat, or a constant one after min-max, marks nothing.

    Raises `InvalidArgumentError` for ``tau`` or ``alpha`` outside [0, 1] and for heat that is negative or
    no number.
    """
    for name, value in (("tau", tau), ("alpha", alpha)):
        if not 0 <= value <= 1:
            raise InvalidArgumentError(name, value, "0 to 1")
    if normalize not in get_args(Normalize):
        raise InvalidArgumentError("normalize", normalize, "'max' or 'minmax'")
    heat = _checked(heatmap)
    if normalize == "minmax":
        heat = min_max(heat)
    if attention is not None:
        heat = heat * rescaled(resize(attention[None], (heat.shape[0], heat.shape[1]))[0], alpha)
    return (heat >= tau * heat.max()) & (heat.max() > 0)


def min_max(values: Float[Tensor, "height width"]) -> Float[Tensor, "height width"]:
    """Stretch values to [0, 1]; constant ones become 0."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else values * 0


def rescaled(attention: Float[Tensor, "height width"], alpha: float) -> Float[Tensor, "height width"]:
    """Stretch a self-attention map to [alpha, 1] (Eq. 8)."""
    return alpha + (1 - alpha) * min_max(attention)


def score(heatmap: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"]) -> float:
    """Say how sure a mask is: its mean heat as a share of the hottest pixel's, in [0, 1]; 0 when empty."""
    heat = _checked(heatmap)
    if not bool(mask.any()) or float(heat.max()) == 0:
        return 0.0
    return float(heat[mask].mean() / heat.max())


def _checked(heatmap: Tensor) -> Tensor:
    """Refuse heat that is negative, no number, or of no pixel."""
    if heatmap.numel() == 0 or not bool(heatmap.isfinite().all()) or float(heatmap.min()) < 0:
        raise InvalidArgumentError("heatmap", tuple(heatmap.shape), "at least one pixel, values finite and at least 0")
    return heatmap
