"""Heatmaps of halves of the attention, for which the queries are read once: parts that may agree with the whole, or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from ovam.attention.heatmaps import SplitHeatmaps
from ovam.attention.scores import Selected, halves_of
from ovam.attention.targets import Rows, split_target_heatmaps
from ovam.core.methods import Method
from ovam.tracing.trace import Trace

WAYS = 3  # to halve: evaluations, heads, blocks


@dataclass(frozen=True, eq=False)
class Halved:
    """A target's heatmap, and those of the halves of its attention, all in one unit."""

    whole: Float[Tensor, "height width"]
    halves: list[Float[Tensor, "height width"]]
    """Of the first and the second half of the evaluations, of the heads, and of the blocks: where there are two of them."""


def halved_target_heatmaps(trace: Trace, targets: Sequence[Rows], methods: Sequence[Method]) -> list[Halved]:
    """Do as `target_heatmaps` does, and keep halves apart.

    Every attention map is computed once, in one of eight groups; a half is the mean of four, the whole that of all, which rounds
    differently from `target_heatmaps` in the last bits. Raises what that raises.
    """
    parts = split_target_heatmaps(trace, targets, methods, grouped if trace.joint is None else "halves")
    return [halved(one, method) for one, method in zip(parts, methods, strict=True)]


def grouped(selected: Sequence[Selected]) -> dict[str, list[Selected]]:
    """Part a selection by halves of evaluations, of each block's heads, and of the blocks in their order: "011", for example."""
    found: dict[str, list[Selected]] = {}
    for last, blocks in enumerate(halves_of(tuple(selected))):
        for one, (late, upper) in product(blocks, product((0, 1), repeat=2)):
            steps, heads = halves_of(one.evaluations)[late], halves_of(one.heads)[upper]
            if steps and heads:
                found.setdefault(f"{late}{upper}{last}", []).append(one.part(steps, heads))
    return found


def halved(parts: SplitHeatmaps, method: Method) -> Halved:
    """Join groups to the whole and to the halves of every way in which there are two."""
    maps, terms = parts.maps[:, 0], torch.tensor(parts.terms, device=parts.maps.device)[:, None, None]
    sums = maps * terms if method.reduction == "mean" else maps
    unit = 1 if method.reduction == "mean" else terms.sum()
    counted = [*zip(parts.names, parts.terms, strict=True)]  # what weighs nothing is no half
    sides = [[[name[way] == side and weight > 0 for name, weight in counted] for side in "01"] for way in range(WAYS)]
    return Halved(
        sums.sum(dim=0) / terms.sum() * unit,
        [sums[half].sum(dim=0) / terms[half].sum() * unit for way in sides if all(map(any, way)) for half in way],
    )
