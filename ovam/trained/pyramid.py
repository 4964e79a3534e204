"""From a trace to what a trained network takes: the features of both halves of guidance, grid by grid, and attention maps."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ovam.errors import FeaturesNotKeptError
from ovam.tracing.features import Features
from ovam.tracing.trace import Trace

Level = Float[Tensor, "_ _ _"]
"""(channels, height, width) of one grid."""


def pyramid(trace: Trace, blocks: Sequence[str], attentions: Sequence[str] = ()) -> list[Level]:
    """Return the maps of the UNet's last evaluation, joined for each grid, the coarsest first, in single precision.

    A block's channels are the unconditional half's, then the conditional one's, and blocks follow each other in the order of
    `blocks`. Behind them come the maps of `attentions`: of every head to every token of the image's own prompt.

    Raises `FeaturesNotKeptError`.
    """
    features, last = features_of(trace), trace.evaluations[-1]
    grids: dict[tuple[int, int], list[Tensor]] = {}
    for name in blocks:
        maps = features.at(last, name)
        if len(maps) != 2:
            raise FeaturesNotKeptError("the image was generated without guidance; the network takes both halves of guidance")
        grids.setdefault((maps.shape[-2], maps.shape[-1]), []).append(maps.flatten(0, 1).float())
    for name in attentions:
        maps = attention_map(trace, name, features)
        grids.setdefault((maps.shape[-2], maps.shape[-1]), []).append(maps)
    return [torch.cat(maps) for _, maps in sorted(grids.items())]


def features_of(trace: Trace) -> Features:
    """Return a trace's features. Raises `FeaturesNotKeptError` when it has none."""
    if trace.features is None:
        raise FeaturesNotKeptError(
            "the trace holds no features of the UNet's blocks, which the method's network takes; "
            "capture with features=FeatureChoice(), or compute them again: Replay.trace(features=FeatureChoice())"
        )
    return trace.features


def attention_map(trace: Trace, name: str, features: Features) -> Float[Tensor, "maps height width"]:
    """Return the attention of every head of a block to every token of the image's own prompt, at the last evaluation (Eq. 3)."""
    block = next((block for block in trace.blocks if block.name == name), None)
    if block is None or trace.half != "conditional":
        raise FeaturesNotKeptError(f"the trace lacks the conditional queries of block {name!r}, which the network takes")
    (row,) = block.rows([len(trace.evaluations) - 1])
    keys = block.keys(features.prompt).float() * block.scale
    attention = (keys @ block.queries[row].float().transpose(-1, -2)).softmax(dim=-2)
    return attention.unflatten(-1, block.grid).flatten(0, 1)
