"""Queries in eight bits: one scale for each channel of a head at an evaluation."""

import torch
from jaxtyping import Float, Int8
from torch import Tensor

LARGEST = 127
SMALLEST_SCALE = 2.0**-24  # that half precision can hold
ABOVE = 1 + 2.0**-11  # half a step of half precision, relatively: what it is rounded to is then no smaller


def quantised(
    values: Float[Tensor, "evaluations heads pixels head_dim"],
) -> tuple[Int8[Tensor, "evaluations heads pixels head_dim"], Float[Tensor, "evaluations heads 1 head_dim"]]:
    """Round values to steps of their channel's scale, which is its largest value over the pixels by 127.

    Scales are half precision, rounded up before they are used, so that the largest value is in reach of its steps.
    """
    exact = values.float()
    scales = (exact.abs().amax(dim=2, keepdim=True) / LARGEST * ABOVE + SMALLEST_SCALE / 2).half().clamp(min=SMALLEST_SCALE)
    return (exact / scales.float()).round().clamp(-LARGEST, LARGEST).to(torch.int8), scales


def dequantised(steps: Tensor, scales: Tensor | None) -> Tensor:
    """Return values of half precision from their steps; values without scales are what they are."""
    return steps if scales is None else (steps.half() * scales)
