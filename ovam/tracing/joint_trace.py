"""What a trace holds of a model whose pixels and text attend together: what it was given, to compute any attention again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ovam.core.methods import Attention
from ovam.core.selection import Blocks, Grid, select_blocks
from ovam.errors import SelectionError
from ovam.tracing.binding import Binding, require_bound
from ovam.tracing.blocks import Layer
from ovam.tracing.families import Family, family_of
from ovam.tracing.joint import joint_attentions, of_two_streams
from ovam.tracing.keys import place_of
from ovam.tracing.passes import Evaluated
from ovam.tracing.sides import Need, Side, bytes_of_one, sides


@runtime_checkable
class Recorded(Protocol):
    """What a model was given: a `Replay`."""

    @property
    def samples(self) -> Tensor:
        """The latents of every evaluation."""

    @property
    def conditions(self) -> Mapping[str, Tensor]:
        """All else that the model was given, by name."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The attentions that may be asked for."""

    @property
    def evaluations(self) -> tuple[int, ...]:
        """Which evaluations they are."""

    @property
    def binding(self) -> Binding:
        """What the model was."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes in bytes."""

    def given(self, positions: tuple[int, ...], place: torch.device) -> Evaluated:
        """Return the inputs of some evaluations on a device."""

    def to_bytes(self) -> bytes:
        """Write one file."""


@dataclass(frozen=True, eq=False)
class Joint:
    """A transformer, and what it was given at the evaluations of one image."""

    replay: Recorded
    unet: nn.Module
    memory: int
    """Bytes that a pass may take, about."""
    between: Callable[[], None] = lambda: None
    """Called between two passes."""
    _kept: dict[tuple[Any, ...], list[Side]] = field(default_factory=dict)

    @property
    def family(self) -> Family:
        """The model's."""
        return family_of(self.unet)

    @property
    def width(self) -> int:
        """Length of the rows of a text embedding."""
        return int(self.unet.context_embedder.in_features)  # type: ignore[union-attr]

    @property
    def embedding(self) -> Float[Tensor, "tokens text_width"]:
        """The prompt's own rows, as the image was drawn for them."""
        return self.replay.conditions["encoder_hidden_states"][0]

    @property
    def grids(self) -> dict[str, Grid]:
        """(height, width) of the joint blocks that may be read."""
        return {layer.name: layer.grid for layer in self.replay.layers}

    def blocks(self, attention: Attention, selection: Blocks) -> tuple[str, ...]:
        """Name the blocks that an attention is read from: selected ones, for "all" the family's. Raises `SelectionError`."""
        own = [name for name in self.grids if attention != "concept" or of_two_streams(name)]
        if selection != "all":
            return select_blocks(selection, {name: self.grids[name] for name in own})
        double = [name for name in joint_attentions(self.unet) if of_two_streams(name)]
        usual = self.family.default_blocks(attention, double)
        found = tuple(name for name in own if name in usual) or tuple(own)
        if not found:
            raise SelectionError("blocks", [*self.grids], "with blocks of two streams, through which a concept stream runs")
        return found

    def require_same(self) -> None:
        """Raise `TraceMismatchError` unless the transformer computes by what it did at capture."""
        require_bound(self.replay.binding, self.unet)

    def sides(self, needs: Mapping[str, frozenset[Need]], positions: tuple[int, ...]) -> Iterator[tuple[int, Side]]:
        """Compute the pixels' side at some evaluations again; yield the evaluation's position with each."""
        with torch.inference_mode(mode=False), torch.no_grad():
            given = self.replay.given(positions, place_of(self.unet))
            for number, side in sides(self.unet, given, needs, self.memory, self.between):
                yield positions[number], side

    def bytes_of_one(self, needs: Mapping[str, frozenset[Need]]) -> int:
        """Return about how much memory a pass takes for each of its evaluations."""
        return bytes_of_one(self.unet, self.replay.samples, self.replay.conditions["encoder_hidden_states"], needs)

    def sides_kept(self, needs: Mapping[str, frozenset[Need]], positions: tuple[int, ...]) -> Iterator[tuple[int, Side]]:
        """Do as `sides` does, and keep what it yields for the next call, if all of it fits in the memory of a pass."""
        key = (*needs.items(), positions)
        if len(positions) * self.bytes_of_one(needs) > self.memory:
            yield from self.sides(needs, positions)
            return
        if key not in self._kept:
            self._kept.clear()
            self._kept[key] = [side for _, side in self.sides(needs, positions)]
        yield from zip(positions, self._kept[key], strict=True)

    def stream_needs(self, blocks: Sequence[str]) -> dict[str, frozenset[Need]]:
        """Return what a concept stream that is read in some blocks needs of each block up to the last of these."""
        double = [name for name in joint_attentions(self.unet) if of_two_streams(name)]
        end = max(double.index(name) for name in blocks) + 1
        read: frozenset[Need] = frozenset({"values", "output"})
        passed: frozenset[Need] = frozenset({"values"})
        return {name: read if name in blocks else passed for name in double[:end]}


class PixelAttention:
    """A `SelfAttention` of the pixels of one joint block, by which heat is refined; it is computed when it is first read."""

    linear = False

    def __init__(self, joint: Joint) -> None:
        self._joint = joint
        names = [name for name in joint.grids if of_two_streams(name)] or list(joint.grids)
        self.name = names[int(joint.family.refine * len(names))]
        self.grid = joint.grids[self.name]

    @property
    def scale(self) -> float:
        """Factor on the scores, 1/sqrt(head_dim)."""
        return self.queries.shape[-1] ** -0.5

    @property
    def queries(self) -> Float[Tensor, "evaluations heads pixels head_dim"]:
        """Queries of every kept evaluation."""
        return self._computed[0]

    @property
    def keys(self) -> Float[Tensor, "evaluations heads pixels head_dim"]:
        """Keys of every kept evaluation."""
        return self._computed[1]

    @cached_property
    def _computed(self) -> tuple[Tensor, Tensor]:
        positions = tuple(range(len(self._joint.replay.evaluations)))
        found = [side.blocks[self.name] for _, side in self._joint.sides({self.name: frozenset({"pixels"})}, positions)]
        return torch.cat([there(each.queries) for each in found]), torch.cat([there(each.keys) for each in found])


def there(tensor: Tensor | None) -> Tensor:
    """Return what was asked for of a block's side."""
    if tensor is None:
        raise ValueError("what is needed of a block was not kept")
    return tensor
