"""The attention of two tokens and its gradient, written out: what is computed in every epoch of learning one class."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ovam.attention.precision import exact_type, multiply, product_type


def sigmoid_sum(
    queries: Float[Tensor, "evaluations heads pixels head_dim"], difference: Float[Tensor, "heads head_dim"]
) -> Float[Tensor, " pixels"]:
    """Sum over evaluations and heads the sigmoid of every query's product with the difference of two tokens' keys.

    That is the second token's softmax of two. Differentiable once, with respect to `difference`.
    """
    return _SigmoidSum.apply(queries, difference)


class _SigmoidSum(torch.autograd.Function):
    """With s = sigmoid(q d), the gradient is the sum over evaluations and pixels of g s (1 - s) q.

    Both directions read the queries once, an evaluation at a time; nothing of their size is kept between them.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, difference: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own
        kind = product_type(queries)
        row = difference.to(kind)[:, None]
        odds = torch.empty(queries.shape[:3], dtype=exact_type(queries), device=queries.device)
        for into, query in zip(odds[:, :, None], queries, strict=True):
            multiply(row, query.to(kind).transpose(-1, -2), into)
        odds.sigmoid_()
        ctx.save_for_backward(queries, odds)
        ctx.type = difference.dtype
        return odds.sum(dim=(0, 1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[None, Tensor]:  # noqa: ANN401 - the same
        queries, odds = ctx.saved_tensors
        kind = product_type(queries)
        total = torch.zeros(odds.shape[1], 1, queries.shape[3], dtype=odds.dtype, device=odds.device)
        product = torch.empty_like(total)
        for odd, query in zip(odds, queries, strict=True):
            weight = torch.addcmul(odd, odd, odd, value=-1).mul_(slope)
            total += multiply(weight[:, None].to(kind), query.to(kind), product)
        return None, total[:, 0].to(ctx.type)
