"""Heatmaps, their refinement and the learning of tokens as published code computes them, to compare the library with.

Every block and evaluation apart, all softmaxes kept, every map resized, in single precision.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, interpolate

from ovam.tracing.blocks import Block, SelfAttention


def heatmaps(blocks: Sequence[Block], embedding: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens height width"]:
    """Eq. 3 to 5 as they stand, on the largest grid."""
    size = max((block.grid for block in blocks), key=lambda grid: grid[0] * grid[1])
    kept = []
    for block in blocks:
        keys = block.to_k(embedding).unflatten(-1, (block.heads, -1)).transpose(0, 1).float()
        for queries in block.queries:
            attention = (queries.float() @ keys.transpose(-1, -2) * block.scale).softmax(dim=-1)
            kept.append(attention.transpose(-1, -2).unflatten(-1, block.grid))
    total = torch.zeros(len(embedding), *size, device=kept[0].device)
    for maps in kept:
        total = total + interpolate(maps, size=size, mode="bilinear", align_corners=False).sum(dim=0)
    return total


def spread(heat: Float[Tensor, " pixels"], layer: SelfAttention, steps: int) -> Float[Tensor, " pixels"]:
    """Multiply heat by the mean self-attention, the attention of every evaluation anew in each step."""
    for _ in range(steps):
        seen = []
        for query, key in zip(layer.queries, layer.keys, strict=True):
            seen.append((query.float() @ key.float().transpose(-1, -2) * layer.scale).softmax(dim=-1) @ heat)
        heat = torch.cat(seen).mean(dim=0)
    return heat


def epoch(
    blocks: Sequence[Block], tokens: Float[Tensor, "classes width"], target: Float[Tensor, "classes height width"], rate: float
) -> Float[Tensor, "classes width"]:
    """One step of gradient descent on Eq. 7, the gradient by autograd."""
    rows = tokens.detach().requires_grad_()
    terms = sum(block.queries.shape[0] * block.heads for block in blocks)
    maps = interpolate(heatmaps(blocks, rows)[None] / terms, size=target.shape[1:], mode="bilinear", align_corners=False)[0]
    loss = binary_cross_entropy(maps.clamp(1e-6, 1 - 1e-6), target, reduction="none").sum(dim=0).mean()
    (slope,) = torch.autograd.grad(loss, rows)
    return tokens - rate * slope
