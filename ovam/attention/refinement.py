"""Refinement by self-attention: which pixels receive attention (Eq. 8), and which belong together."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

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
_MATRICES: "WeakKeyDictionary[Layer, Tensor]" = WeakKeyDictionary()
"""The attention of layers, summed over evaluations and heads, as long as the layers are there."""


@runtime_checkable
class Layer(Protocol):
    """One self-attention of the UNet, as it was captured. Two are the same if they are one object."""

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
        seen = _Seen(layer, evaluations, heads)
        received = seen.received()
        total = total.to(received) + resize(received.view(1, *layer.grid), largest)[0]
        terms += seen.terms
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
    own. The pixels x pixels matrix is kept for the next step, and for other heat of the same layers, where it is no larger
    than the queries and keys that it is computed from; else it is never materialised: heat is the value of the attention.
    A constant map is unchanged, and every value stays within the range of the input.

    Raises `InvalidArgumentError` for `steps` outside 1 to 4, and what `attention_received` raises.
    """
    if not 1 <= steps <= MOST_AFFINITY_STEPS:
        raise InvalidArgumentError("steps", steps, f"1 to {MOST_AFFINITY_STEPS}")
    _largest(layers)
    seen = [_Seen(layer, evaluations, heads) for layer in layers]
    for _ in range(steps):
        heat = _spread(heat, seen)
    return heat


def matrix_bytes(layer: Layer) -> int:
    """Return the bytes that are kept with a layer once something was refined by it, 0 where its matrix would be too large."""
    return 4 * layer.queries.shape[2] ** 2 if not layer.linear and _is_small(layer.queries) else 0


class _Seen:
    """What the pixels of a layer attend to, summed over evaluations and heads: by its matrix where that is small."""

    def __init__(self, layer: Layer, evaluations: Positions | slice, heads: Positions | slice) -> None:
        self.layer = layer
        self.queries, self.keys = _selected(layer, evaluations, heads)
        self.terms = self.queries.shape[0] * self.queries.shape[1]
        self._matrix: Tensor | None = None
        if not layer.linear and _is_small(self.queries):
            whole = (evaluations, heads) == ("all", "all")
            self._matrix = _MATRICES.get(layer) if whole else None
            if self._matrix is None:
                self._matrix = _summed(self.queries * layer.scale, self.keys)
            if whole:
                _MATRICES[layer] = self._matrix

    def attended(self, values: Float[Tensor, "pixels maps"]) -> Float[Tensor, "pixels maps"]:
        """Sum the values that every pixel attends to."""
        values = values.to(self.queries)
        if self._matrix is not None:
            return self._matrix @ values
        attended = torch.zeros_like(values)
        for query, key in zip(self.queries, self.keys, strict=True):
            if self.layer.linear:
                attended = attended + _linearly_attended(query, key, values)
            else:
                attended = attended + _attended(query, key, values, self.layer.scale)
        return attended

    def received(self) -> Float[Tensor, " pixels"]:
        """Sum the attention that every pixel receives."""
        if self._matrix is not None:
            return self._matrix.sum(dim=0)
        received = torch.zeros(self.queries.shape[2], dtype=self.queries.dtype, device=self.queries.device)
        for query, key in zip(self.queries, self.keys, strict=True):
            part = _linear_column_sum(query, key) if self.layer.linear else _column_sum(query * self.layer.scale, key)
            received = received + part
        return received


def _is_small(queries: Float[Tensor, "evaluations heads pixels head_dim"]) -> bool:
    """Whether a matrix of pixels by pixels has no more numbers than queries and keys together."""
    return queries.shape[2] ** 2 <= 2 * queries.numel()


def _summed(
    queries: Float[Tensor, "evaluations heads pixels head_dim"], keys: Float[Tensor, "evaluations heads pixels head_dim"]
) -> Float[Tensor, "pixels pixels"]:
    """Sum attention over evaluations and heads; queries come scaled. It is kept, so no mode of the caller's is kept with it."""
    _, heads, pixels, _ = queries.shape
    rows = max(1, _PROBABILITIES_AT_A_TIME // (heads * pixels))
    with torch.inference_mode(mode=False), torch.no_grad():
        total = torch.zeros(pixels, pixels, dtype=queries.dtype, device=queries.device)
        for query, key in zip(queries, keys, strict=True):
            for part, found in zip(query.split(rows, dim=1), total.split(rows), strict=True):
                found.add_((part @ key.transpose(-1, -2)).softmax(dim=-1).sum(dim=0))
    return total


def _spread(heat: Float[Tensor, "maps height width"], every: Sequence["_Seen"]) -> Float[Tensor, "maps height width"]:
    """Multiply heat once by the mean self-attention."""
    size = (heat.shape[1], heat.shape[2])
    total = torch.zeros_like(heat)
    for seen in every:
        grid = seen.layer.grid
        attended = seen.attended(resize(heat, grid).flatten(1).T)
        total = total + resize(attended.T.unflatten(1, grid).to(heat), size)
    return total / sum(seen.terms for seen in every)


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
