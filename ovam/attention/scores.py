"""The arithmetic of a heatmap: which attention maps it sums up, and at which size (Eq. 5)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeVar

import torch
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from ovam.attention.aggregation import contribution_of, map_weights, require_aggregation
from ovam.core.methods import Aggregation
from ovam.core.selection import Blocks, Positions, select_blocks, select_positions
from ovam.errors import InvalidArgumentError
from ovam.tracing.blocks import Block
from ovam.tracing.trace import Trace

Split = Literal["block", "evaluation", "head"]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Selected:
    """The part of a block from which a heatmap is computed."""

    block: Block
    evaluations: tuple[int, ...]
    heads: tuple[int, ...]
    weights: Float[Tensor, "evaluations heads"] | None = None
    """How much each attention map counts, on the CPU, 1 on average over the trace's selection; `None`: all the same."""

    @property
    def terms(self) -> float:
        """How many attention maps it sums up, or how much they weigh together."""
        return float(len(self.evaluations) * len(self.heads) if self.weights is None else self.weights.sum())

    def part(self, evaluations: tuple[int, ...], heads: tuple[int, ...]) -> "Selected":
        """Return some of the selected evaluations and heads, whose maps count as they do here."""
        weights = self.weights
        if weights is not None:
            rows, columns = [self.evaluations.index(each) for each in evaluations], [self.heads.index(each) for each in heads]
            weights = weights[rows][:, columns]
        return replace(self, evaluations=evaluations, heads=heads, weights=weights)

    def queries(self) -> Float[Tensor, "evaluations heads pixels head_dim"]:
        """Return the queries of the selected evaluations and heads."""
        return _taken(_taken(self.block.queries, 0, self.block.rows(self.evaluations)), 1, self.heads)

    def keys(self, embedding: Float[Tensor, "tokens text_width"]) -> Float[Tensor, "heads tokens head_dim"]:
        """Project an embedding to keys, scaled, of the selected heads."""
        return _taken(self.block.keys(embedding) * self.block.scale, 0, self.heads)


def select(
    trace: Trace,
    blocks: Blocks,
    evaluations: Positions | slice,
    heads: Positions | slice,
    aggregation: Aggregation = "equal",
) -> list[Selected]:
    """Select the parts of a trace that a heatmap is computed from. Raises `SelectionError`.

    With "automatic" aggregation their maps count by what their heads and layers contribute. Raises `ContributionsNotKeptError`.
    """
    require_aggregation(aggregation, trace)
    names = select_blocks(blocks, {block.name: block.grid for block in trace.blocks})
    steps = select_positions(evaluations, len(trace.evaluations), "evaluations")
    selected = [
        Selected(block, steps, select_positions(heads, block.heads, f"heads of {block.name}"))
        for block in trace.blocks
        if block.name in names
    ]
    if aggregation == "equal":
        return selected
    weights = map_weights([contributed(one) for one in selected])
    return [replace(one, weights=own) for one, own in zip(selected, weights, strict=True)]


def contributed(selected: Selected) -> tuple[Float[Tensor, "evaluations heads"], Float[Tensor, " evaluations"]]:
    """Return how much the selected heads, and their layer, contribute at the selected evaluations."""
    found, rows = contribution_of(selected.block).to("cpu"), list(selected.block.rows(selected.evaluations))
    return found.heads[rows][:, list(selected.heads)], found.layer[rows]


def halves_of(things: tuple[T, ...]) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """Return the first half and the second, which has one more of an odd number; a single thing has no second half."""
    middle = max(1, len(things) // 2)
    return things[:middle], things[middle:]


def parted(selected: Sequence[Selected], by: Split) -> dict[str, list[Selected]]:
    """Split a selection into named parts: blocks by their name, evaluations and heads by their position in the trace.

    The n-th heads of all blocks form one part, to which a block with fewer heads adds nothing.
    """
    match by:
        case "block":
            return {one.block.name: [one] for one in selected}
        case "evaluation":
            steps = selected[0].evaluations
            return {str(step): [one.part((step,), one.heads) for one in selected] for step in steps}
        case "head":
            heads = sorted({head for one in selected for head in one.heads})
            return {str(head): [one.part(one.evaluations, (head,)) for one in selected if head in one.heads] for head in heads}
        case _:
            raise InvalidArgumentError("by", by, "'block', 'evaluation' or 'head'")


def terms_of(selected: Sequence[Selected]) -> float:
    """Count the attention maps of a selection, blocks x evaluations x heads, each as often as it counts."""
    return sum(one.terms for one in selected)


def largest_grid(selected: Sequence[Selected]) -> tuple[int, int]:
    """Return the (height, width) with the most pixels."""
    return max((one.block.grid for one in selected), key=lambda grid: grid[0] * grid[1])


Attend = Callable[
    [
        Float[Tensor, "evaluations heads pixels head_dim"],
        Float[Tensor, "heads tokens head_dim"],
        Float[Tensor, "evaluations heads"] | None,
    ],
    Float[Tensor, "maps pixels"],
]


def summed(
    selected: Sequence[Selected], embedding: Float[Tensor, "tokens text_width"], size: tuple[int, int], attend: Attend
) -> Float[Tensor, "maps height width"]:
    """Add up the attention maps that `attend` makes of queries, keys and their weights, resized to `size` (Eq. 5).

    Resizing is linear, so it is done last, once per grid.
    """
    by_grid: dict[tuple[int, int], Tensor] = {}
    for one in selected:
        grid = one.block.grid
        maps = attend(one.queries(), one.keys(embedding), one.weights).unflatten(-1, grid)
        by_grid[grid] = by_grid[grid] + maps if grid in by_grid else maps
    return _sum(resize(maps, size) for maps in by_grid.values())


Side = Annotated[int, Interval(ge=1)]
Size = tuple[Side, Side]
"""(height, width) in pixels."""


def resize(maps: Float[Tensor, "maps height width"], size: tuple[int, int]) -> Float[Tensor, "maps new_height new_width"]:
    """Resize maps bilinearly to `size` (height, width), as `align_corners=False` does."""
    if min(size) < 1:
        raise InvalidArgumentError("size", size, "(height, width), each at least 1")
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    return interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


def _taken(tensor: Tensor, dim: int, indices: tuple[int, ...]) -> Tensor:
    """Select along a dimension, without a copy where the indices are contiguous."""
    first, last = indices[0], indices[-1]
    if last - first + 1 == len(indices):
        return tensor.narrow(dim, first, len(indices))
    return tensor.index_select(dim, torch.tensor(indices, device=tensor.device))


def _sum(parts: Iterable[Tensor]) -> Tensor:
    """Sum tensors of one shape."""
    first, *rest = parts
    for part in rest:
        first = first + part
    return first
