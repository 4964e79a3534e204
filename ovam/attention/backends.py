"""How this device computes attention best: in which types, and by which kernels. Decided here alone."""

from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor


def exact_type(queries: Tensor) -> torch.dtype:
    """Return the type of scores, exponentials and sums."""
    return torch.promote_types(queries.dtype, torch.float32)


def product_type(queries: Tensor) -> torch.dtype:
    """Return the type in which queries and keys are multiplied: their own, but single where a CPU is slow at it."""
    slow = queries.dtype == torch.float16 or (queries.dtype == torch.bfloat16 and not multiplies_bfloat16())
    return torch.float32 if slow and queries.device.type == "cpu" else queries.dtype


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16."""
    return torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 - nothing public tells


def fused_for(queries: Tensor, tokens: int) -> ModuleType | None:
    """Return the kernels for a GPU, where there is one and they take texts of so many tokens."""
    if queries.device.type != "cuda":
        return None
    try:
        from ovam.attention import fused  # noqa: PLC0415 - needs triton, which comes with torch for CUDA alone
    except ImportError:
        return None
    return fused if fused.fits(queries, tokens) else None


def multiply(
    left: Float[Tensor, "#evaluations heads rows inner"],
    right: Float[Tensor, "evaluations heads inner columns"],
    into: Float[Tensor, "evaluations heads rows columns"],
) -> None:
    """Multiply the matrices of all evaluations and heads at once, into memory that may be of a more exact type."""
    left = left.expand(right.shape[0], -1, -1, -1).flatten(0, 1)
    product, right = into.flatten(0, 1), right.flatten(0, 1)
    if left.dtype == into.dtype:
        torch.bmm(left, right, out=product)
    else:
        product.copy_(torch.bmm(left, right))
