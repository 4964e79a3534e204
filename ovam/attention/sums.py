"""Sums of attention over evaluations and heads, for which the queries are read once (Eq. 3 and 5).

They are computed by a kernel on a GPU (`fused`), else in tiles that stay in the processor's cache. Gradients with respect to the
keys are written out, for two tokens in `sigmoids`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from ovam.attention.backends import exact_type, fused_for, multiply, product_type
from ovam.attention.sigmoids import sigmoid_sum

# Scores held at a time. On a CPU: few enough for its last cache, and memory that is used again needs no new pages; enough that
# threads seldom wait for each other, which takes long where other programs run.
_SCORES_AT_A_TIME = {"cpu": 1 << 20}
_SCORES_ELSEWHERE = 1 << 26
MapWeights = Float[Tensor, "evaluations heads"] | None
"""How often each attention map counts; `None`: once."""
_LEAST_PIXELS = 64  # of a tile: shorter products are slow


def attention_sum(
    queries: Float[Tensor, "evaluations heads pixels head_dim"],
    keys: Float[Tensor, "heads tokens head_dim"],
    weights: MapWeights = None,
) -> Float[Tensor, "tokens pixels"]:
    """Sum over evaluations and heads the softmax over tokens of the scores (Eq. 3); `keys` come scaled.

    Tokens come before pixels because a softmax over a short last dimension is many times slower. For two tokens it is
    the sigmoid of the difference of their scores. Differentiable once, with respect to `keys`. In single precision or better.
    With `weights` each map counts as often as they say.
    """
    if weights is not None:
        return _weighted_sum(queries, keys, weights)
    if keys.shape[1] == 2:
        second = sigmoid_sum(queries, keys[:, 1] - keys[:, 0])
        return torch.stack([queries.shape[0] * queries.shape[1] - second, second])
    if keys.requires_grad and torch.is_grad_enabled():
        return _SoftmaxSum.apply(queries, keys)
    if fused := fused_for(queries, keys.shape[1]):
        return fused.attention_sums(queries, keys, [keys.shape[1]])
    return _tiled_sum(queries, keys)


def text_sums(
    queries: Float[Tensor, "evaluations heads pixels head_dim"],
    keys: Float[Tensor, "heads rows head_dim"],
    lengths: Sequence[int],
    weights: MapWeights = None,
) -> Float[Tensor, "rows pixels"]:
    """Do as `attention_sum` does for several texts whose keys lie one after the other, each with a softmax of its own."""
    if weights is None and (fused := fused_for(queries, max(lengths))):
        return fused.attention_sums(queries, keys, lengths)
    return torch.cat([attention_sum(queries, text, weights) for text in keys.split(list(lengths), dim=1)])


def target_sums(
    queries: Float[Tensor, "evaluations heads pixels head_dim"],
    keys: Float[Tensor, "heads rows head_dim"],
    weights: Float[Tensor, "sums rows"],
    of_maps: MapWeights = None,
) -> tuple[Float[Tensor, "targets pixels"], Float[Tensor, ""]]:
    """Sum over evaluations and heads, for each target, the ratio of two weighted sums of the scores' exponentials.

    The first half of `weights` are those of the numerators, the second half of the denominators; `of_maps` says how often each
    evaluation and head counts. Returns the largest denominator, too: it is infinite where an exponential overflowed, and then
    the sums are wrong.
    """
    total = _zeros(queries, len(weights) // 2)
    largest = total.new_zeros(())
    for pixels, steps, _, scores in tiles(queries, keys):
        wanted, whole = (weights @ scores.exp_()).chunk(2, dim=-2)
        largest = torch.maximum(largest, whole.amax())
        total[:, pixels] += _over_maps(wanted.div_(whole), of_maps, steps)
    return total, largest


def tiles(
    queries: Float[Tensor, "evaluations heads pixels head_dim"], keys: Float[Tensor, "heads tokens head_dim"]
) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Multiply every key with every pixel's query, tile by tile: of some evaluations and pixels.

    Yields the pixels' place, that of the evaluations, their queries (evaluations, heads, pixels, head_dim), and their scores
    (maps, tokens, pixels), a map for each evaluation and head. Scores may be written to; the next ones take their memory.
    """
    _, heads, pixels, _ = queries.shape
    kind = product_type(queries)
    keys = keys.to(kind)
    steps, width, memory = _room(queries, heads * keys.shape[1])
    for left in range(0, pixels, width):
        place = slice(left, min(left + width, pixels))
        for first in range(0, len(queries), steps):
            some = slice(first, first + steps)
            part = queries[some, :, place]
            shape = (part.shape[0], heads, keys.shape[1], part.shape[2])
            scores = memory[: shape[0] * shape[1] * shape[2] * shape[3]].view(shape)
            query = part.to(kind)
            multiply(keys[None], query.transpose(-1, -2), scores)
            yield place, some, query, scores.flatten(0, 1)


class _SoftmaxSum(torch.autograd.Function):
    """With p the softmax and g the gradient of its sum, that of the keys is the sum of (p g - p (sum of p g over tokens)) q.

    The softmax is computed again for the gradient, so that nothing of its size is kept.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own
        ctx.save_for_backward(queries, keys)
        return _tiled_sum(queries, keys)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor]:  # type: ignore[bad-override]  # noqa: ANN401 - the same
        queries, keys = ctx.saved_tensors
        total = torch.zeros(keys.shape, dtype=exact_type(queries), device=keys.device)
        for pixels, _, part, scores in tiles(queries, keys):
            odds = torch.softmax(scores, dim=-2, out=scores)
            slope = odds * grad_outputs[0][:, pixels]
            slope -= odds * slope.sum(dim=-2, keepdim=True)
            product = total.new_empty(len(part), *total.shape)
            multiply(slope.unflatten(0, part.shape[:2]).to(part.dtype), part, product)
            total += product.sum(dim=0)
        return None, total.to(keys.dtype)


def _tiled_sum(queries: Tensor, keys: Tensor, weights: MapWeights = None) -> Float[Tensor, "tokens pixels"]:
    """Do as `attention_sum` does, tile by tile."""
    total = _zeros(queries, keys.shape[1])
    for pixels, steps, _, scores in tiles(queries, keys):
        total[:, pixels] += _over_maps(torch.softmax(scores, dim=-2, out=scores), weights, steps)
    return total


def _over_maps(maps: Float[Tensor, "maps sums pixels"], weights: MapWeights, steps: slice) -> Float[Tensor, "sums pixels"]:
    """Add up the maps of some evaluations."""
    return maps.sum(dim=0) if weights is None else torch.tensordot(weights[steps].flatten().to(maps), maps, dims=1)


def _weighted_sum(queries: Tensor, keys: Tensor, weights: Tensor) -> Float[Tensor, "tokens pixels"]:
    """Do as `attention_sum` does where maps count differently; for a gradient every evaluation is computed once more."""
    if not (keys.requires_grad and torch.is_grad_enabled()):
        return _tiled_sum(queries, keys, weights)
    total = _zeros(queries, keys.shape[1])
    for query, own in zip(queries, weights.to(total), strict=True):
        total = total + checkpoint(_of_one, query.to(total), keys.to(total), own, use_reentrant=False)
    return total


def _of_one(queries: Tensor, keys: Tensor, weights: Tensor) -> Float[Tensor, "tokens pixels"]:
    """Compute the weighted softmaxes of one evaluation."""
    return torch.tensordot(weights, (keys @ queries.transpose(-1, -2)).softmax(dim=-2), dims=1)


def _room(queries: Tensor, scores_of_pixel: int) -> tuple[int, int, Tensor]:
    """Return how many evaluations, and how many pixels of them, to take at a time, and memory for their scores.

    Where the device has no room for as many, they are fewer.
    """
    evaluations, _, pixels, _ = queries.shape
    most = _SCORES_AT_A_TIME.get(queries.device.type, _SCORES_ELSEWHERE)
    while True:
        steps, width = _tile(evaluations, scores_of_pixel, pixels, most)
        try:
            return steps, width, torch.empty(steps * scores_of_pixel * width, dtype=exact_type(queries), device=queries.device)
        except torch.OutOfMemoryError:
            if steps == 1 and width <= _LEAST_PIXELS:
                raise
            most //= 4


def _tile(evaluations: int, scores_of_pixel: int, pixels: int, most: int) -> tuple[int, int]:
    """Return how many evaluations, and how many pixels of them, have `most` scores."""
    if scores_of_pixel * pixels <= most:
        return min(evaluations, most // (scores_of_pixel * pixels)), pixels
    return 1, min(pixels, max(most // scores_of_pixel // _LEAST_PIXELS, 1) * _LEAST_PIXELS)


def _zeros(queries: Tensor, maps: int) -> Float[Tensor, "maps pixels"]:
    return torch.zeros(maps, queries.shape[2], dtype=exact_type(queries), device=queries.device)
