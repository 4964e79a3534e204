"""How much each attention map weighs in a heatmap: all the same, or by its head's and its layer's part in the generation."""

from collections.abc import Sequence
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ovam.core.methods import Aggregation
from ovam.errors import ContributionsNotKeptError, InvalidArgumentError
from ovam.tracing.blocks import Block
from ovam.tracing.contributions import Contribution
from ovam.tracing.trace import Trace


def require_aggregation(aggregation: Aggregation, trace: Trace) -> None:
    """Raise `InvalidArgumentError` for another aggregation, and for one that the trace's family of models has not."""
    if aggregation not in get_args(Aggregation):
        raise InvalidArgumentError("aggregation", aggregation, "'equal' or 'automatic'")
    if aggregation == "automatic" and trace.joint is not None:
        reason = f"'equal' for {trace.family}, whose heads write what they read of pixels and of text as one"
        raise InvalidArgumentError("aggregation", aggregation, reason)


def contribution_of(block: Block) -> Contribution:
    """Return a block's contribution. Raises `ContributionsNotKeptError`."""
    if block.contribution is None:
        raise ContributionsNotKeptError(
            f"aggregation='automatic' needs how much heads and layers contribute, which this trace of {block.name!r} lacks: "
            "capture with contributions=True, or compute it again: Replay.trace(contributions=True); no file of queries holds it"
        )
    return block.contribution


def map_weights(
    parts: Sequence[tuple[Float[Tensor, "evaluations _"], Float[Tensor, " evaluations"]]],
) -> list[Float[Tensor, "evaluations _"]]:
    """Return the weights of every layer's attention maps by the contributions of its heads and its own; 1 on average.

    At every evaluation heads share what their layer weighs, and layers share the evaluation, by what is positive of their
    contributions; where nothing is, all alike.
    """
    layers = shares(torch.stack([layer for _, layer in parts]).double(), dim=0)
    count = sum(heads.shape[1] for heads, _ in parts)
    return [shares(heads.double(), dim=1) * own[:, None] * count for (heads, _), own in zip(parts, layers, strict=True)]


def shares(contributions: Tensor, dim: int) -> Tensor:
    """Divide what is positive by its sum; where nothing is positive, all shares are the same."""
    positive = contributions.clamp_min(0)
    total = positive.sum(dim=dim, keepdim=True)
    return torch.where(total > 0, positive / total, 1 / contributions.shape[dim])
