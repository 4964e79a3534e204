"""How the masks of many settings overlap with the truth of one image, computing once what they share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

import ovam
from experiments.evaluation.images import Made, Mask
from experiments.evaluation.maps import Parts, heat_of, parts_of
from experiments.evaluation.settings import Asked, Setting
from ovam import Method
from ovam.heatmaps import resize
from ovam.masks import min_max, weighed

Counts = NDArray[np.int64]  # (thresholds, 2): pixels of the intersection and of the union


@dataclass(frozen=True, eq=False)
class Target:
    """The rows of an embedding whose maps are averaged."""

    embedding: Float[Tensor, "tokens width"]
    rows: tuple[int, ...]


class Heats:
    """The heat of an image under every setting; what several settings need is made once."""

    def __init__(self, made: Made, targets: Mapping[Asked, Target], settings: Sequence[Setting]) -> None:
        asked = {setting.asked for setting in settings}
        self._parts: dict[Asked, Parts] = {
            name: parts_of(made.trace, target.embedding, target.rows) for name, target in targets.items() if name in asked
        }
        self._layers = made.trace.self_attention
        attends = any(setting.method.refine in ("attention", "both") for setting in settings)
        self._received = ovam.attention_received(self._layers) if attends else None
        self._heats = self._spread(settings)

    def heat(self, setting: Setting) -> Float[Tensor, "height width"]:
        """The heat, spread if the method does."""
        return self._heats[setting.key]

    def received(self, method: Method) -> Float[Tensor, "height width"] | None:
        """The weights of Eq. 8, if the method has them."""
        return self._received if method.refine in ("attention", "both") else None

    def _plain(self, setting: Setting) -> Float[Tensor, "height width"]:
        return heat_of(self._parts[setting.asked], setting.method.blocks, setting.method.evaluations)

    def _spread(self, settings: Sequence[Setting]) -> dict[str, Tensor]:
        """Spread, step by step, all heats of one grid in one product."""
        found: dict[str, Tensor] = {}
        waiting: dict[tuple[int, ...], list[tuple[Setting, Tensor]]] = {}
        for setting in settings:
            heat = self._plain(setting)
            if setting.method.refine in ("affinity", "both"):
                waiting.setdefault(tuple(heat.shape), []).append((setting, heat))
            else:
                found[setting.key] = heat
        for group in waiting.values():
            maps = torch.stack([heat for _, heat in group])
            for step in range(1, 1 + max(setting.method.affinity_steps for setting, _ in group)):
                maps = ovam.affinity(maps, self._layers)
                found |= {s.key: heat for (s, _), heat in zip(group, maps, strict=True) if s.method.affinity_steps == step}
        return found


def measured(
    made: Made, targets: Mapping[Asked, Target], settings: Sequence[Setting], grid: Sequence[float] | None
) -> dict[str, Counts]:
    """Count intersection and union of every setting's mask with the truth, at every threshold of a grid or its own."""
    heats = Heats(made, targets, settings)
    found = {}
    for setting in settings:
        masks = cuts(setting.method, heats, setting, made, grid)
        found[setting.key] = counted(masks, made.truth)
    return found


def cuts(
    method: Method, heats: Heats, setting: Setting, made: Made, grid: Sequence[float] | None
) -> Bool[np.ndarray, "thresholds height width"]:
    """The masks of one setting."""
    heat, received = heats.heat(setting), heats.received(method)
    if grid is None:
        return ovam.cut(method, heat, made.image, received)[None]
    masks = swept(method, heat, made.truth.shape, received, grid)
    if method.crf is None:
        return masks
    last: Mask | None = None
    for index, mask in enumerate(masks):
        if last is not None and np.array_equal(mask, last):
            masks[index] = masks[index - 1]
            continue
        last = mask.copy()
        masks[index] = ovam.dense_crf(made.image, mask, method.crf)
    return masks


def swept(
    method: Method,
    heat: Float[Tensor, "map_height map_width"],
    size: tuple[int, int],
    received: Float[Tensor, "attention_height attention_width"] | None,
    grid: Sequence[float],
) -> Bool[np.ndarray, "thresholds height width"]:
    """Cut heat at every share of its maximum, as `ovam.binarize` does at one."""
    resized = resize(heat[None], size)[0]
    resized = min_max(resized) if method.normalize == "minmax" else resized
    resized = resized if received is None else weighed(resized, received, method.alpha, method.sign)
    return (resized >= torch.tensor(grid)[:, None, None] * resized.max()).numpy()


def counted(masks: Bool[np.ndarray, "thresholds height width"], truth: Mask) -> Counts:
    """Intersection and union of masks with the truth."""
    return np.stack([(masks & truth).sum(axis=(1, 2)), (masks | truth).sum(axis=(1, 2))], axis=1)


def at(setting: Setting, tau: float) -> Setting:
    """The setting with another threshold."""
    return replace(setting, method=replace(setting.method, tau=tau))
