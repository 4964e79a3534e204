"""The attention of two tokens and its gradient, written out: what is computed in every epoch of learning one class."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ovam.attention.backends import exact_type, fused_for, multiply, product_type

_VALUES_AT_A_TIME = 1 << 20


def sigmoid_sum(
    queries: Float[Tensor, "evaluations heads pixels head_dim"], difference: Float[Tensor, "heads head_dim"]
) -> Float[Tensor, " pixels"]:
    """Sum over evaluations and heads the sigmoid of every query's product with the difference of two tokens' keys.

    That is the second token's softmax of two. Differentiable once, with respect to `difference`.
    """
    return _SigmoidSum.apply(queries, difference)


class _SigmoidSum(torch.autograd.Function):
    """With s = sigmoid(q d), the gradient is the sum over evaluations and pixels of g s (1 - s) q.

    Both directions read the queries once, some evaluations at a time; nothing of their size is kept between them. On a
    GPU one kernel each does it; what is saved there for the gradient is the difference.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, difference: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own
        ctx.type = difference.dtype
        if fused := fused_for(queries, 2):
            ctx.save_for_backward(queries, difference)
            return fused.sigmoid_sum(queries, difference)
        kind = product_type(queries)
        odds = torch.empty(*queries.shape[:2], 1, queries.shape[2], dtype=exact_type(queries), device=queries.device)
        steps = _evaluations_at_a_time(queries)
        for into, part in zip(odds.split(steps), queries.split(steps), strict=True):
            multiply(difference.to(kind)[None, :, None], part.to(kind).transpose(-1, -2), into)
        odds.sigmoid_()
        ctx.save_for_backward(queries, odds)
        return odds.sum(dim=(0, 1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor]:  # type: ignore[bad-override]  # noqa: ANN401 - the same
        (slope,) = grad_outputs
        queries, odds = ctx.saved_tensors
        if fused := fused_for(queries, 2):
            return None, fused.sigmoid_slope(queries, odds, slope).to(ctx.type)
        kind = product_type(queries)
        steps = _evaluations_at_a_time(queries)
        total = torch.zeros(odds.shape[1], 1, queries.shape[3], dtype=odds.dtype, device=odds.device)
        for odd, part in zip(odds.split(steps), queries.split(steps), strict=True):
            weight = torch.addcmul(odd, odd, odd, value=-1).mul_(slope)
            product = total.new_empty(len(part), *total.shape)
            multiply(weight.to(kind), part.to(kind), product)
            total += product.sum(dim=0)
        return None, total[:, 0].to(ctx.type)


def _evaluations_at_a_time(queries: Tensor) -> int:
    """Return how many evaluations to take at a time: small ones together, since every step has a cost of its own."""
    return max(1, _VALUES_AT_A_TIME // max(1, queries[0].numel()))
