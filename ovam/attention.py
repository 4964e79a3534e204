"""The arithmetic of a heatmap: which maps of attention take part, and their sum (Eq. 3 and 5)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from ovam.errors import InvalidArgumentError
from ovam.selection import Blocks, Indices, chosen_blocks, chosen_indices
from ovam.trace import Block, Trace

Split = Literal["block", "evaluation", "head"]

# Scores computed at a time: few enough to stay in a CPU's cache, enough to make a small block one operation.
_SCORES_AT_A_TIME = 1 << 18


@dataclass(frozen=True, eq=False)
class Share:
    """What of a block takes part in a heatmap."""

    block: Block
    evaluations: tuple[int, ...]
    heads: tuple[int, ...]

    @property
    def terms(self) -> int:
        """How many maps of attention that is."""
        return len(self.evaluations) * len(self.heads)

    def queries(self) -> Float[Tensor, "evaluations heads pixels head_dim"]:
        """Take the queries that take part."""
        return _taken(_taken(self.block.queries, 0, self.evaluations), 1, self.heads)

    def keys(self, embeddings: Float[Tensor, "texts tokens text_width"]) -> Float[Tensor, "heads texts tokens head_dim"]:
        """Project embeddings to keys, scaled, for the heads that take part."""
        keys = self.block.keys(embeddings.flatten(0, 1)) * self.block.scale
        return _taken(keys, 0, self.heads).unflatten(1, embeddings.shape[:2])


def shares_of(trace: Trace, blocks: Blocks, evaluations: Indices, heads: Indices) -> list[Share]:
    """Choose what of a trace takes part. SelectionError when that is nothing, or outside of the trace."""
    names = chosen_blocks(blocks, {block.name: block.grid for block in trace.blocks})
    steps = chosen_indices(evaluations, len(trace.evaluations), "evaluations")
    return [
        Share(block, steps, chosen_indices(heads, block.heads, f"heads of {block.name}"))
        for block in trace.blocks
        if block.name in names
    ]


def parted(shares: Sequence[Share], by: Split) -> dict[str, list[Share]]:
    """Part what takes part, by name: blocks have theirs, evaluations and heads their position in the trace.

    The n-th heads of all blocks are one part, in which a block with fewer heads has none.
    """
    match by:
        case "block":
            return {share.block.name: [share] for share in shares}
        case "evaluation":
            steps = shares[0].evaluations
            return {str(step): [replace(share, evaluations=(step,)) for share in shares] for step in steps}
        case "head":
            heads = sorted({head for share in shares for head in share.heads})
            return {str(head): [replace(share, heads=(head,)) for share in shares if head in share.heads] for head in heads}
        case _:
            raise InvalidArgumentError("by", by, "'block', 'evaluation' or 'head'")


def largest_grid(shares: Sequence[Share]) -> tuple[int, int]:
    """Find the grid with the most pixels."""
    return max((share.block.grid for share in shares), key=lambda grid: grid[0] * grid[1])


def summed(
    shares: Sequence[Share], embeddings: Sequence[Float[Tensor, "_ text_width"]], size: tuple[int, int]
) -> list[Float[Tensor, "_ height width"]]:
    """Add up all maps of attention to the rows of each embedding, resized to ``size`` (Eq. 5).

    Resizing is linear, so that it comes last, once a grid. Embeddings of one length are done as one, and the
    queries are read once for all.
    """
    lengths = {len(embedding): None for embedding in embeddings}
    packs = [[number for number, each in enumerate(embeddings) if len(each) == length] for length in lengths]
    stacks = [torch.stack([embeddings[number] for number in pack]) for pack in packs]
    by_grid: dict[tuple[int, int], list[Tensor]] = {}
    for share in shares:
        sums = attention_sums(share.queries(), [share.keys(stack) for stack in stacks])
        earlier = by_grid.get(share.block.grid)
        by_grid[share.block.grid] = sums if earlier is None else [one + other for one, other in zip(earlier, sums, strict=True)]
    found: dict[int, Tensor] = {}
    for place, (pack, stack) in enumerate(zip(packs, stacks, strict=True)):
        grids = {grid: sums[place].flatten(0, 1).unflatten(1, grid) for grid, sums in by_grid.items()}
        total = _sum(resize(maps, size) for maps in grids.values())
        found |= zip(pack, total.unflatten(0, stack.shape[:2]), strict=True)
    return [found[number] for number in range(len(embeddings))]


def attention_sums(
    queries: Float[Tensor, "evaluations heads pixels head_dim"], keys: Sequence[Float[Tensor, "heads _ _ head_dim"]]
) -> list[Float[Tensor, "_ _ pixels"]]:
    """Sum over evaluations and heads the softmax over each text's tokens of the scores (Eq. 3); ``keys`` come scaled.

    Each of ``keys`` is of texts with as many tokens. The tokens lie before the pixels, because a softmax over a
    short last dimension is many times slower.
    """
    evaluations, heads, pixels, _ = queries.shape
    rows = sum(each.shape[1] * each.shape[2] for each in keys)
    parts = queries.split(min(evaluations, max(1, _SCORES_AT_A_TIME // (heads * rows * pixels))))
    exact = torch.float32 if queries.dtype == torch.float16 and queries.device.type == "cpu" else queries.dtype
    portions = [each.to(exact).split(max(1, _SCORES_AT_A_TIME // (heads * each.shape[2] * pixels)), dim=1) for each in keys]
    sums: list[Tensor] = []
    for part in parts:
        wide = part.to(exact)  # fp16 products are slow on a CPU
        found = [torch.cat([_attention_sum(wide, portion) for portion in each]) for each in portions]
        sums = [one + other for one, other in zip(sums, found, strict=True)] if sums else found
    return sums


def resize(maps: Float[Tensor, "maps height width"], size: tuple[int, int]) -> Float[Tensor, "maps new_height new_width"]:
    """Resize maps bilinearly to ``size`` (height, width), as ``align_corners=False`` does."""
    if min(size) < 1:
        raise InvalidArgumentError("size", size, "(height, width), each at least 1")
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    return interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


def _attention_sum(
    queries: Float[Tensor, "evaluations heads pixels head_dim"], keys: Float[Tensor, "heads texts tokens head_dim"]
) -> Float[Tensor, "texts tokens pixels"]:
    """Sum the attention to texts of one length; that to two tokens is a sigmoid of the difference of their scores."""
    if keys.shape[2] == 2:
        second = _scores(queries, keys[:, :, 1:] - keys[:, :, :1]).sigmoid().sum(dim=(0, 1))
        return torch.cat([queries.shape[0] * queries.shape[1] - second, second], dim=1)
    return _scores(queries, keys).softmax(dim=-2).sum(dim=(0, 1))


def _scores(
    queries: Float[Tensor, "evaluations heads pixels head_dim"], keys: Float[Tensor, "heads texts tokens head_dim"]
) -> Float[Tensor, "evaluations heads texts tokens pixels"]:
    """Multiply every key with every pixel's query, and leave half precision before the exponential."""
    scores = (keys.flatten(1, 2) @ queries.transpose(-1, -2)).unflatten(2, keys.shape[1:3])
    return scores if scores.dtype == torch.float64 else scores.float()


def _taken(tensor: Tensor, dim: int, indices: tuple[int, ...]) -> Tensor:
    """Take some of a dimension, without a copy where they lie side by side."""
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
