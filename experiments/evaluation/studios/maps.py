"""A target's heat split by block and evaluation, of which every selection's heatmap is a sum; and how heat spreads."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

import ovam
from ovam.attention import resize
from ovam.refine import Layer
from ovam.selection import Blocks, Indices, chosen_blocks, chosen_indices


@dataclass(frozen=True, eq=False)
class Part:
    """What one block gave a target."""

    grid: tuple[int, int]
    heads: int
    sums: Float[Tensor, "evaluations height width"]
    """Attention summed over heads."""


Parts = dict[str, Part]  # by the block's name


def parts_of(trace: ovam.Trace, embedding: Float[Tensor, "tokens width"], rows: Sequence[int]) -> Parts:
    """Attend to an embedding once, and keep the mean of some of its tokens block by block, evaluation by evaluation."""
    found = {}
    with torch.no_grad():
        for block in trace.blocks:
            scores = block.keys(embedding) * block.scale @ block.queries.transpose(-1, -2)
            kept = scores.float().softmax(dim=-2).sum(dim=1)[:, list(rows)].mean(dim=1)
            found[block.name] = Part(block.grid, block.heads, kept.unflatten(-1, block.grid).cpu())
    return found


def heat_of(parts: Parts, blocks: Blocks = None, evaluations: Indices = None) -> Float[Tensor, "height width"]:
    """The mean heatmap over some blocks and evaluations, as `ovam.heatmaps` makes it."""
    names = chosen_blocks(blocks, {name: part.grid for name, part in parts.items()})
    by_grid: dict[tuple[int, int], Tensor] = {}
    terms = 0
    for name in names:
        part = parts[name]
        steps = list(chosen_indices(evaluations, len(part.sums), "evaluations"))
        total = part.sums[steps].sum(dim=0)
        by_grid[part.grid] = by_grid[part.grid] + total if part.grid in by_grid else total
        terms += len(steps) * part.heads
    largest = max(by_grid, key=lambda grid: grid[0] * grid[1])
    return torch.stack([resize(total[None], largest)[0] for total in by_grid.values()]).sum(dim=0) / terms


def affinity_matrix(layers: Sequence[Layer]) -> Float[Tensor, "pixels pixels"]:
    """Average the self-attention over layers of one grid, evaluations and heads.

    Small images have few pixels: one matrix serves every map and step of `ovam.affinity`, and its column sums are
    `ovam.attention_received`.
    """
    total = torch.zeros((), device=layers[0].queries.device)
    terms = 0
    for layer in layers:
        keys = layer.keys.transpose(-1, -2) * layer.scale
        for query, key in zip(layer.queries, keys, strict=True):
            total = total + (query @ key).float().softmax(dim=-1).sum(dim=0)
        terms += layer.queries.shape[0] * layer.queries.shape[1]
    return total.cpu() / terms


def spread(
    heat: Float[Tensor, "height width"], matrix: Float[Tensor, "pixels pixels"], grid: tuple[int, int]
) -> Float[Tensor, "height width"]:
    """Take one step of `ovam.affinity`."""
    size = (heat.shape[0], heat.shape[1])
    values = resize(heat[None], grid)[0].flatten()
    return resize((matrix @ values).view(1, *grid), size)[0]
