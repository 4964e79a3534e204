"""From heatmaps to masks: refinement by self-attention, threshold, dense CRF and tidying, each target by its own method."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ovam.attention.halves import Halved
from ovam.attention.refinement import Layer, affinity, attention_received
from ovam.attention.scores import resize
from ovam.attention.targets import Rows
from ovam.core.confidence import Calibration, Confidence, confidence_of
from ovam.core.crf import CrfParameters, dense_crf
from ovam.core.masks import leakages, tidied, weighted
from ovam.core.methods import Method
from ovam.core.pictures import Picture
from ovam.core.thresholds import level_of, prepared, reaches
from ovam.errors import InvalidArgumentError, NoSelfAttentionError

Fit = Callable[[Picture, Sequence[np.ndarray], Sequence[CrfParameters]], list[np.ndarray]]
"""Fits masks of one image to its edges, each with its own parameters: `one_by_one`, or what does the same elsewhere, since that
holds Python's lock while it computes."""


def refined(
    heatmaps: Sequence[Float[Tensor, "_ _"]], methods: Sequence[Method], size: tuple[int, int], layers: Sequence[Layer] = ()
) -> list[Float[np.ndarray, "height width"]]:
    """Bring each target's heatmap to what its threshold cuts, float32 of `size` (height, width), by its own method.

    In this order: affinity, resizing, min-max, weights. What targets have in common is computed once.

    Raises `NoSelfAttentionError` when a method needs layers and there are none.
    """
    if not layers and any(method.needs_self_attention for method in methods):
        raise NoSelfAttentionError(
            "the trace holds no self-attention, by which the method refines heat; "
            "capture with self_attention=True, or choose a method without refinement, such as 'daam'"
        )
    with torch.no_grad():
        received = attention_received(layers) if any(method.weights for method in methods) else None
        weights = None if received is None else resize(received[None], size)[0].float().cpu().numpy()
        spread = [resize(heat[None], size)[0].float().cpu().numpy() for heat in _spread(heatmaps, methods, layers)]
    found = []
    for method, heat in zip(methods, spread, strict=True):
        stretched = prepared(heat, method.threshold)
        found.append(stretched if weights is None or method.weights is None else weighted(stretched, weights, *method.weights))
    return found


def refined_surely(
    maps: Sequence[Halved],
    methods: Sequence[Method],
    size: tuple[int, int],
    layers: Sequence[Layer],
    calibrations: Sequence[Calibration | None],
) -> tuple[list[Float[np.ndarray, "height width"]], list[Confidence | None]]:
    """Do as `refined` does, and say how sure each mask is.

    What is compared is cut alone, of the whole and of the halves: a dense CRF would draw them all to the same edges.
    """
    every = [(each, method) for one, method in zip(maps, methods, strict=True) for each in (one.whole, *one.halves)]
    found = iter(refined([each for each, _ in every], [method for _, method in every], size, layers))
    heats: list[np.ndarray] = []
    sure: list[Confidence | None] = []
    for one, method, calibration in zip(maps, methods, calibrations, strict=True):
        heats.append(next(found))
        masks = [reaches(next(found), method.threshold) for _ in one.halves]
        sure.append(confidence_of(reaches(heats[-1], method.threshold), masks, calibration))
    return heats, sure


def one_by_one(image: Picture, masks: Sequence[np.ndarray], parameters: Sequence[CrfParameters]) -> list[np.ndarray]:
    """Fit masks to an image with `dense_crf`."""
    return [dense_crf(image, mask, one) for mask, one in zip(masks, parameters, strict=True)]


def cut(
    method: Method, heat: Float[np.ndarray, "height width"], image: Picture | None = None
) -> Bool[np.ndarray, "height width"]:
    """Cut refined heat by a method's threshold, fit the mask to the image, and tidy it.

    Raises `InvalidArgumentError` when the method has a CRF and there is no image.
    """
    return cuts([method], [heat], image)[0]


def cuts(
    methods: Sequence[Method],
    heats: Sequence[Float[np.ndarray, "height width"]],
    image: Picture | None = None,
    fit: Fit = one_by_one,
) -> list[Bool[np.ndarray, "height width"]]:
    """Do as `cut` does for several targets of one image; `fit` computes all their dense CRFs."""
    masks = [reaches(heat, method.threshold) for method, heat in zip(methods, heats, strict=True)]
    parameters = {number: method.crf for number, method in enumerate(methods) if method.crf is not None}
    if parameters:
        rough = [masks[number] for number in parameters]
        for number, mask in zip(parameters, fit(required(image), rough, [*parameters.values()]), strict=True):
            masks[number] = mask
    return [tidied(mask, method.minimum_area, fill_holes=method.fill_holes) for method, mask in zip(methods, masks, strict=True)]


def margin(method: Method, heat: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Return how far refined heat is above its method's threshold, as a fraction of its hottest pixel's.

    The threshold is how hot background is for this target, so margins of different targets and methods are in
    one unit, and one is at least 0 exactly where `cut` marks, before it fits and tidies. It is minus infinity without heat.
    """
    return (heat - np.asarray(level_of(heat, method.threshold), heat.dtype)) / heat.max()


def competitors_leakages(
    heats: Sequence[Float[np.ndarray, "height width"]], methods: Sequence[Method], rows: Sequence[Rows]
) -> list[float | None]:
    """Estimate how far the refined heat of targets that compete leaks to the others, see `ovam.core.masks.leakages`."""
    margins = [margin(method, heat) for method, heat in zip(methods, heats, strict=True)]
    return leakages(heats, margins, [one.chosen for one in rows])


def required(image: Picture | None) -> Picture:
    """Return the image. Raises `InvalidArgumentError` when there is none, although a CRF needs it."""
    if image is None:
        raise InvalidArgumentError("image", None, "the image of the trace: the method fits masks to its edges (or set crf=None)")
    return image


def _spread(
    heatmaps: Sequence[Float[Tensor, "_ _"]], methods: Sequence[Method], layers: Sequence[Layer]
) -> list[Float[Tensor, "_ _"]]:
    """Spread the heat of the targets whose method does; those on one grid with as many steps together."""
    spread = list(heatmaps)
    alike: dict[tuple[torch.Size, int], list[int]] = {}
    for number, (heat, method) in enumerate(zip(heatmaps, methods, strict=True)):
        if method.affinity_steps:
            alike.setdefault((heat.shape, method.affinity_steps), []).append(number)
    for (_, steps), numbers in alike.items():
        maps = affinity(torch.stack([heatmaps[number] for number in numbers]), layers, steps=steps)
        for number, heat in zip(numbers, maps, strict=True):
            spread[number] = heat
    return spread
