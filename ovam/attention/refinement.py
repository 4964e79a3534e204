"""Refinement by self-attention: which pixels receive attention (Eq. 8), and which belong together."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from ovam.attention.scores import resize
from ovam.core.methods import MOST_AFFINITY_STEPS
from ovam.core.selection import Positions, select_positions
from ovam.errors import InvalidArgumentError, NoSelfAttentionError

# Probabilities held at a time: 64 MiB in single precision.
_PROBABILITIES_AT_A_TIME = 1 << 24
LEAST = 1e-15  # what Sana adds to the sum that it divides by


@runtime_checkable
class Layer(Protocol):
    """One self-attention of the UNet, as it was captured."""

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the pixels."""

    @property
    def scale(self) -> float:
        """Factor on the scores."""

    @property
    def queries(self) -> Float[Tensor, "evaluations heads pixels head_dim"]:
        """Queries of every kept evaluation."""

    @property
    def keys(self) -> Float[Tensor, "evaluations heads pixels head_dim"]:
        """Keys of every kept evaluation."""

    @property
    def linear(self) -> bool:
        """Whether the attention is relu(q) relu(k)^T, each row divided by its sum, instead of a softmax."""


def attention_received(
    layers: Sequence[Layer], *, evaluations: Positions | slice = "all", heads: Positions | slice = "all"
) -> Float[Tensor, "height width"]:
    """Compute how much attention every pixel receives, on the largest layer's grid (Eq. 8).

    It is the column sum of the self-attention, 1 on average at every resolution, averaged over layers,
    evaluations and heads. (The published code multiplies the attention by ones from the other side, which
    sums rows and gives 1 everywhere.) At most 64 MiB of probabilities exist at a time.

    Raises `NoSelfAttentionError` for no layer, `SelectionError` for a selection outside of them.
    """
    largest = _largest(layers)
    total: Tensor = torch.zeros(())
    terms = 0
    for layer in layers:
        queries, keys = _selected(layer, evaluations, heads)
        received = torch.zeros(queries.shape[2], dtype=queries.dtype, device=queries.device)
        for query, key in zip(queries, keys, strict=True):
            received = received + (_linear_column_sum(query, key) if layer.linear else _column_sum(query * layer.scale, key))
        total = total.to(received) + resize(received.view(1, *layer.grid), largest)[0]
        terms += queries.shape[0] * queries.shape[1]
    return total / terms


def affinity(
    heat: Float[Tensor, "maps height width"],
    layers: Sequence[Layer],
    *,
    steps: int = 1,
    evaluations: Positions | slice = "all",
    heads: Positions | slice = "all",
) -> Float[Tensor, "maps height width"]:
    """Spread heat to the pixels that attend to it: D <- A D, `steps` times, A the mean self-attention.

    A is averaged over layers, evaluations and heads; heat is resized to each layer's grid and back to its
    own. The pixels x pixels matrix is never materialised: heat is the value of the attention. A constant map
    is unchanged, and every value stays within the range of the input.

    Raises `InvalidArgumentError` for `steps` outside 1 to 4, and what `attention_received` raises.
    """
    if not 1 <= steps <= MOST_AFFINITY_STEPS:
        raise InvalidArgumentError("steps", steps, f"1 to {MOST_AFFINITY_STEPS}")
    _largest(layers)
    for _ in range(steps):
        heat = _spread(heat, layers, lambda layer: _selected(layer, evaluations, heads))
    return heat


def _spread(
    heat: Float[Tensor, "maps height width"], layers: Sequence[Layer], selected: Callable[[Layer], tuple[Tensor, Tensor]]
) -> Float[Tensor, "maps height width"]:
    """Multiply heat once by the mean self-attention."""
    size = (heat.shape[1], heat.shape[2])
    total = torch.zeros_like(heat)
    terms = 0
    for layer in layers:
        queries, keys = selected(layer)
        values = resize(heat, layer.grid).flatten(1).T.to(queries)
        attended = torch.zeros_like(values)
        for query, key in zip(queries, keys, strict=True):
            seen = _linearly_attended(query, key, values) if layer.linear else _attended(query, key, values, layer.scale)
            attended = attended + seen
        total = total + resize(attended.T.unflatten(1, layer.grid).to(heat), size)
        terms += queries.shape[0] * queries.shape[1]
    return total / terms


def _attended(
    query: Float[Tensor, "heads pixels head_dim"],
    key: Float[Tensor, "heads pixels head_dim"],
    values: Float[Tensor, "pixels maps"],
    scale: float,
) -> Float[Tensor, "pixels maps"]:
    """Sum over heads the values that every pixel attends to.

    The values come in groups as wide as the head, because the kernels that keep no matrix want that.
    """
    heads, _, width = query.shape
    parts = []
    for group in values.split(width, dim=1):
        filled = pad(group, (0, width - group.shape[1])).contiguous().expand(1, heads, -1, -1)
        seen = scaled_dot_product_attention(query[None], key[None], filled, scale=scale)
        parts.append(seen[0, :, :, : group.shape[1]].sum(dim=0))
    return torch.cat(parts, dim=1)


def _column_sum(
    query: Float[Tensor, "heads pixels head_dim"], key: Float[Tensor, "heads pixels head_dim"]
) -> Float[Tensor, " pixels"]:
    """Sum the attention that every pixel receives, over heads and attending pixels; queries come scaled."""
    heads, pixels, _ = query.shape
    rows = max(1, _PROBABILITIES_AT_A_TIME // (heads * pixels))
    total = torch.zeros(pixels, dtype=query.dtype, device=query.device)
    for part in query.split(rows, dim=1):
        total = total + (part @ key.transpose(-1, -2)).softmax(dim=-1).sum(dim=(0, 1))
    return total


def _linearly_attended(
    query: Float[Tensor, "heads pixels head_dim"],
    key: Float[Tensor, "heads pixels head_dim"],
    values: Float[Tensor, "pixels maps"],
) -> Float[Tensor, "pixels maps"]:
    """Do as `_attended` does for linear attention. A row without any weight has none to divide: there, the value stays."""
    query, key = query.relu(), key.relu()
    whole = query @ key.sum(dim=1)[..., None]
    seen = query @ (key.transpose(-1, -2) @ values) / whole.clamp(min=LEAST)
    return torch.where(whole > LEAST, seen, values).sum(dim=0)


def _linear_column_sum(
    query: Float[Tensor, "heads pixels head_dim"], key: Float[Tensor, "heads pixels head_dim"]
) -> Float[Tensor, " pixels"]:
    """Do as `_column_sum` does for linear attention; a pixel without any weight attends to itself."""
    query, key = query.relu(), key.relu()
    whole = query @ key.sum(dim=1)[..., None]
    looking = torch.where(whole > LEAST, query / whole.clamp(min=LEAST), 0).sum(dim=1)
    return ((key @ looking[..., None]).squeeze(-1) + (whole <= LEAST).squeeze(-1).to(key)).sum(dim=0)


def _selected(layer: Layer, evaluations: Positions | slice, heads: Positions | slice) -> tuple[Tensor, Tensor]:
    """Return the queries and keys of selected evaluations and heads, in single precision at least."""
    queries, keys = layer.queries, layer.keys
    if evaluations != "all":
        steps = list(select_positions(evaluations, queries.shape[0], "evaluations"))
        queries, keys = queries[steps], keys[steps]
    if heads != "all":
        kept = list(select_positions(heads, queries.shape[1], "heads"))
        queries, keys = queries[:, kept], keys[:, kept]
    exact = torch.promote_types(queries.dtype, torch.float32)
    return queries.to(exact), keys.to(exact)


def _largest(layers: Sequence[Layer]) -> tuple[int, int]:
    """Return the largest grid. Raises `NoSelfAttentionError` when no self-attention was captured."""
    if not layers:
        raise NoSelfAttentionError("the trace holds no self-attention; capture with it to refine by it")
    return max((layer.grid for layer in layers), key=lambda grid: grid[0] * grid[1])
