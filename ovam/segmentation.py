"""From heatmaps to masks and labels, each by its method: refine, cut, tidy (Eq. 8 and 9)."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ovam.attention import resize
from ovam.crf import dense_crf
from ovam.masks import fill_holes, remove_small, stretched_and_weighed
from ovam.methods import Method
from ovam.refine import Layer, affinity, attention_received
from ovam.thresholds import level_of, reaches


def mask_of(
    method: Method,
    heatmap: Float[Tensor, "map_height map_width"],
    image: UInt8[np.ndarray, "height width 3"],
    layers: Sequence[Layer] = (),
) -> Bool[np.ndarray, "height width"]:
    """Make a target's mask at the size of its image, with every setting that comes after the heatmap.

    In turn: affinity, resizing, weights, threshold, CRF, small regions, holes. ``layers`` are the captured
    self-attentions; only methods that refine by them need any.

    Raises `NoSelfAttentionError` when they are missing, and what the single functions raise.
    """
    (heat,) = refined([heatmap], [method], (image.shape[0], image.shape[1]), layers)
    return cut(method, heat, image)


def refined(
    heatmaps: Sequence[Float[Tensor, "_ _"]], methods: Sequence[Method], size: tuple[int, int], layers: Sequence[Layer] = ()
) -> list[Float[Tensor, "height width"]]:
    """Bring each target's heatmap to what its threshold cuts, of ``size`` (height, width), by its own method.

    In turn: affinity, resizing, min-max, weights. What targets share is computed once.

    Raises `NoSelfAttentionError` when a method needs layers and there are none.
    """
    with torch.no_grad():
        received = attention_received(layers) if any(method.weighs for method in methods) else None
        spread = _spread(heatmaps, methods, layers)
        return [
            stretched_and_weighed(
                resize(heat[None], size)[0],
                method.rule(),
                attention=received if method.weighs else None,
                alpha=method.alpha,
                sign=method.sign,
            )
            for heat, method in zip(spread, methods, strict=True)
        ]


def cut(
    method: Method, heat: Float[Tensor, "height width"], image: UInt8[np.ndarray, "height width 3"]
) -> Bool[np.ndarray, "height width"]:
    """Cut refined heat by a method's threshold, fit the mask to the image, and tidy it."""
    mask = reaches(heat, method.rule())
    if method.crf is not None:
        mask = torch.from_numpy(dense_crf(image, mask.cpu().numpy(), method.crf))
    if method.minimum_area:
        mask = remove_small(mask, method.minimum_area)
    if method.fill_holes:
        mask = fill_holes(mask)
    return mask.cpu().numpy()


def lead(method: Method, heat: Float[Tensor, "height width"]) -> Float[Tensor, "height width"]:
    """Say how far refined heat is above its method's threshold, as a share of its hottest pixel's.

    The threshold is how hot background is for this target, so leads of different targets and methods are in
    one unit, and one is at least 0 exactly where `cut` marks, before it fits and tidies.
    """
    hottest = heat.max()
    return (heat - level_of(heat, method.rule())) / (hottest if hottest > 0 else 1)


def _spread(
    heatmaps: Sequence[Float[Tensor, "_ _"]], methods: Sequence[Method], layers: Sequence[Layer]
) -> list[Float[Tensor, "_ _"]]:
    """Spread the heat of those whose method does; all on one grid with as many steps are done as one."""
    spread = list(heatmaps)
    alike: dict[tuple[torch.Size, int], list[int]] = {}
    for number, (heat, method) in enumerate(zip(heatmaps, methods, strict=True)):
        if method.spreads:
            alike.setdefault((heat.shape, method.affinity_steps), []).append(number)
    for (_, steps), numbers in alike.items():
        maps = affinity(torch.stack([heatmaps[number] for number in numbers]), layers, steps=steps)
        for number, heat in zip(numbers, maps, strict=True):
            spread[number] = heat
    return spread
