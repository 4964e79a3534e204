"""Heatmaps of any text over an image's pixels, from its trace (Eq. 3 to 5)."""

from collections.abc import Iterable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from ovam.errors import InvalidArgumentError
from ovam.model import Pipeline
from ovam.selection import Blocks, Indices, chosen_blocks, chosen_indices
from ovam.text import Padding, encode, word_tokens
from ovam.trace import Block, Trace

Reduction = Literal["mean", "sum"]

# Scores computed at a time: few enough to stay in a CPU's cache, enough to make a small block one operation.
_SCORES_AT_A_TIME = 1 << 18


def heatmaps(
    trace: Trace,
    embedding: Float[Tensor, "tokens text_width"],
    *,
    reduction: Reduction = "mean",
    size: tuple[int, int] | None = None,
    blocks: Blocks = None,
    evaluations: Indices = None,
    heads: Indices = None,
) -> Float[Tensor, "tokens height width"]:
    """Compute the attention of every pixel to every row of a text embedding (Eq. 5).

    ``reduction="sum"`` adds up blocks, evaluations and heads, as Eq. 5; ``"mean"`` divides by the number of
    terms, so that values lie in [0, 1] and sum to 1 over the tokens. The maps have the largest grid among
    the chosen blocks, or ``size`` (height, width), resized bilinearly. ``evaluations`` and ``heads`` are
    positions in the trace; see `ovam.selection` for how to choose. Differentiable with respect to
    ``embedding``; fp32 (fp64 for an fp64 trace), on the trace's device.

    Raises `SelectionError`, and `InvalidArgumentError` for an embedding of another width.
    """
    if reduction not in get_args(Reduction):
        raise InvalidArgumentError("reduction", reduction, "'mean' or 'sum'")
    if embedding.shape[0] < 1 or embedding.shape[1] != trace.width:
        raise InvalidArgumentError("embedding", tuple(embedding.shape), f"(1 or more tokens, {trace.width})")
    names = chosen_blocks(blocks, {block.name: block.grid for block in trace.blocks})
    steps = chosen_indices(evaluations, len(trace.evaluations), "evaluations")
    with torch.set_grad_enabled(torch.is_grad_enabled() and embedding.requires_grad):
        by_grid: dict[tuple[int, int], Tensor] = {}
        terms = 0
        for block in trace.blocks:
            if block.name in names:
                part, count = _block_sum(block, embedding, steps, heads)
                by_grid[block.grid] = by_grid[block.grid] + part if block.grid in by_grid else part
                terms += count
        largest = max(by_grid, key=lambda grid: grid[0] * grid[1])
        total = _sum(resize(maps, largest) for maps in by_grid.values())
        if reduction == "mean":
            total = total / terms
        return total if size is None else resize(total, size)


def word_heatmap(  # noqa: PLR0913 - every choice of the method is one keyword
    trace: Trace,
    pipeline: Pipeline,
    prompt: str,
    word: str,
    *,
    padding: Padding = "none",
    occurrence: int | None = None,
    reduction: Reduction = "mean",
    size: tuple[int, int] | None = None,
    blocks: Blocks = None,
    evaluations: Indices = None,
    heads: Indices = None,
) -> Float[Tensor, "height width"]:
    """Compute the heatmap of a word or phrase of an attribution prompt: the mean over its tokens' maps.

    All occurrences of the word count, or with ``occurrence`` the n-th, from 0; the rest is as in `heatmaps`.

    Raises what `ovam.encode` and `heatmaps` raise, and `WordNotInPromptError`.
    """
    embedding, tokens = encode(pipeline, prompt, padding=padding)
    rows = [token.index for token in word_tokens(tokens, prompt, word, occurrence=occurrence)]
    maps = heatmaps(trace, embedding, reduction=reduction, blocks=blocks, evaluations=evaluations, heads=heads)
    mean = maps[rows].mean(dim=0, keepdim=True)
    return (mean if size is None else resize(mean, size))[0]


def resize(maps: Float[Tensor, "maps height width"], size: tuple[int, int]) -> Float[Tensor, "maps new_height new_width"]:
    """Resize maps bilinearly to ``size`` (height, width), as ``align_corners=False`` does."""
    if min(size) < 1:
        raise InvalidArgumentError("size", size, "(height, width), each at least 1")
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    return interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


def attention_sum(
    queries: Float[Tensor, "evaluations heads pixels head_dim"], keys: Float[Tensor, "heads tokens head_dim"]
) -> Float[Tensor, "tokens pixels"]:
    """Sum over evaluations and heads the softmax over tokens of the scores (Eq. 3); ``keys`` come scaled.

    The tokens lie before the pixels, because a softmax over a short last dimension is many times slower.
    """
    evaluations, heads, pixels, _ = queries.shape
    tokens = keys.shape[1]
    at_a_time = min(evaluations, max(1, _SCORES_AT_A_TIME // (heads * tokens * pixels)))
    parts = queries.split(at_a_time)
    if tokens == 2:
        difference = keys[:, 1:] - keys[:, :1]
        second = _sum(_scores(part, difference).sigmoid().sum(dim=(0, 1)) for part in parts)
        return torch.cat([evaluations * heads - second, second])
    return _sum(_scores(part, keys).softmax(dim=-2).sum(dim=(0, 1)) for part in parts)


def _scores(
    queries: Float[Tensor, "evaluations heads pixels head_dim"], keys: Float[Tensor, "heads tokens head_dim"]
) -> Float[Tensor, "evaluations heads tokens pixels"]:
    """Multiply every key with every pixel's query, and leave half precision before the exponential."""
    if queries.dtype == torch.float16 and queries.device.type == "cpu":  # where fp16 products are slow
        queries, keys = queries.float(), keys.float()
    scores = keys @ queries.transpose(-1, -2)
    return scores if scores.dtype == torch.float64 else scores.float()


def _block_sum(
    block: Block, embedding: Float[Tensor, "tokens text_width"], steps: tuple[int, ...], heads: Indices
) -> tuple[Float[Tensor, "tokens height width"], int]:
    """Sum one block's attention at its own grid, and count the terms."""
    queries, keys = block.queries, block.keys(embedding) * block.scale
    if len(steps) < queries.shape[0]:
        queries = queries[list(steps)]
    if heads is not None:
        chosen = list(chosen_indices(heads, block.heads, f"heads of {block.name}"))
        queries, keys = queries[:, chosen], keys[chosen]
    return attention_sum(queries, keys).unflatten(-1, block.grid), queries.shape[0] * queries.shape[1]


def _sum(parts: Iterable[Tensor]) -> Tensor:
    """Sum tensors of one shape."""
    first, *rest = parts
    for part in rest:
        first = first + part
    return first
