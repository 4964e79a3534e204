"""How far heatmaps are from an annotation (Eq. 7)."""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cross_entropy

_BCE_MARGIN = 1e-6


def bce(
    maps: Float[Tensor, "classes height width"],
    target: Float[Tensor, "classes height width"],
    counted: Bool[Tensor, "height width"] | None = None,
) -> Float[Tensor, ""]:
    """Binary cross-entropy of mean heatmaps and masks, summed over classes, averaged over pixels (Eq. 7).

    With `counted` the other pixels are left out of the average.
    """
    heat = maps.clamp(_BCE_MARGIN, 1 - _BCE_MARGIN)
    return _mean(-(target * heat.log() + (1 - target) * (1 - heat).log()).sum(dim=0), counted)


def cross_entropy_minmax(
    maps: Float[Tensor, "classes height width"],
    target: Float[Tensor, "classes height width"],
    counted: Bool[Tensor, "height width"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy with the maps, stretched to [0, 1] all together, for logits: the published code's.

    Pixels that are not counted take part in the stretching.
    """
    low, high = maps.min(), maps.max()
    stretched = (maps - low) / (high - low) if high > low else maps * 0
    return _mean(cross_entropy(stretched[None], target[None], reduction="none")[0], counted)


def _mean(values: Float[Tensor, "height width"], counted: Bool[Tensor, "height width"] | None) -> Float[Tensor, ""]:
    """Average over the pixels that count; how many they are stays on the device."""
    return values.mean() if counted is None else values.where(counted, 0).sum() / counted.sum()
