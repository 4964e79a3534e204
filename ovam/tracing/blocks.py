"""What one attention block left behind: queries, and what is needed to hold keys against them."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from ovam.core.selection import Grid
from ovam.errors import SelectionError
from ovam.tracing.contributions import Contribution
from ovam.tracing.keys import projected


@dataclass(frozen=True)
class Layer:
    """An attention whose queries were to be kept."""

    name: str
    grid: Grid
    """(height, width) of the pixels."""
    to_text: bool
    """Whether it attends to the text, not to the pixels themselves."""
    heads: int
    """How many of its heads were to be kept."""
    head_indices: tuple[int, ...] | None
    """Which of them; `None` for all."""


@dataclass(frozen=True, eq=False)
class Block:
    """The queries of one cross-attention block and what is needed to hold keys against them."""

    name: str
    """Path in the UNet, e.g. `down_blocks.0.attentions.0.transformer_blocks.0.attn2`."""
    grid: tuple[int, int]
    """(height, width) of the pixels: `pixels = height * width`."""
    scale: float
    """Factor on the scores, 1/sqrt(head_dim) (Eq. 3)."""
    queries: Float[Tensor, "evaluations heads pixels head_dim"]
    to_k: nn.Module
    """The block's key projection as it was at capture."""
    head_indices: tuple[int, ...] | None = None
    """Which of the block's heads were kept; `None` for all."""
    fingerprint: Float[Tensor, " channels"] | None = None
    """Keys of one fixed row at capture; `None` for a block that was not captured."""
    positions: tuple[int, ...] | None = None
    """Which of the trace's evaluations `queries` holds; `None` for all."""
    contribution: Contribution | None = None
    """How much its heads and itself contribute, for automatic aggregation, if that was kept; no file holds it."""

    @property
    def heads(self) -> int:
        """Number of attention heads that were kept."""
        return self.queries.shape[1]

    def rows(self, evaluations: Sequence[int]) -> tuple[int, ...]:
        """Return where in `queries` some evaluations of the trace are. Raises `SelectionError` for absent ones."""
        if self.positions is None:
            return tuple(evaluations)
        missing = [each for each in evaluations if each not in self.positions]
        if missing:
            raise SelectionError("evaluations", missing, f"those that were read or computed: {self.positions}")
        return tuple(self.positions.index(each) for each in evaluations)

    def keys(self, embedding: Float[Tensor, "tokens text_width"]) -> Float[Tensor, "heads tokens head_dim"]:
        """Project a text embedding to attribution keys, in the queries' type and place (Eq. 4)."""
        keys = projected(self.to_k, embedding).unflatten(-1, (-1, self.queries.shape[-1])).transpose(0, 1)
        kept = keys if self.head_indices is None else keys[list(self.head_indices)]
        return kept.to(self.queries.device, self.queries.dtype)


@dataclass(frozen=True, eq=False)
class SelfAttention:
    """The queries and keys with which the pixels of one block attended to each other."""

    name: str
    """Path in the UNet, e.g. `down_blocks.0.attentions.0.transformer_blocks.0.attn1`."""
    grid: tuple[int, int]
    """(height, width) of the pixels."""
    scale: float
    """Factor on the scores, 1/sqrt(head_dim)."""
    queries: Float[Tensor, "evaluations heads pixels head_dim"]
    keys: Float[Tensor, "evaluations heads pixels head_dim"]
    linear: bool = False
    """Whether the attention is relu(q) relu(k)^T, each row divided by its sum, instead of a softmax."""
