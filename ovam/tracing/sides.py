"""The pixels' side of a joint attention, computed again from what a transformer was given, evaluation by evaluation."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ovam.tracing.joint import Projections, Rotation, joint_attentions, of_pixels, of_two_streams, of_words, part_of
from ovam.tracing.passes import VECTORS_AT_ONCE, Evaluated, out_of_memory, predict, transformer_bytes

Need = Literal["values", "output", "words", "mass", "pixels"]
"""Of a block: keys and values of pixels, what they attend to, queries and the prompt's keys, the weight of all pixels among the
keys, or queries and keys of pixels."""

_SCORES_AT_A_TIME = 1 << 24  # 64 MiB in single precision


@dataclass(frozen=True, eq=False)
class BlockSide:
    """What the pixels of one block leave, at some evaluations: as much of it as was asked for."""

    keys: Float[Tensor, "rows heads pixels head_dim"] | None = None
    values: Float[Tensor, "rows heads pixels head_dim"] | None = None
    queries: Float[Tensor, "rows heads pixels head_dim"] | None = None
    output: Float[Tensor, "rows pixels width"] | None = None
    """What pixels attend to, heads side by side, before it is projected."""
    words: Float[Tensor, "rows heads tokens head_dim"] | None = None
    """Keys of the prompt's own rows."""
    mass: Float[Tensor, "rows heads pixels"] | None = None
    """Logarithm of the sum over all pixels of exp(score)."""

    def row(self, number: int) -> "BlockSide":
        """Return that of one evaluation."""
        return BlockSide(**{name: each if each is None else each[number : number + 1] for name, each in vars(self).items()})

    @property
    def nbytes(self) -> int:
        """Memory that it takes in bytes."""
        return sum(each.nbytes for each in vars(self).values() if each is not None)


@dataclass(frozen=True, eq=False)
class Side:
    """What the pixels leave in all blocks that were asked for, at some evaluations."""

    blocks: Mapping[str, BlockSide]
    modulation: Float[Tensor, "rows modulations"]
    """The embedding of timestep, guidance and pooled prompt, by which blocks are modulated; of FLUX.2 the modulation itself."""
    rotation: Rotation
    """Of the text's positions."""

    def row(self, number: int) -> "Side":
        """Return that of one evaluation."""
        blocks = {name: each.row(number) for name, each in self.blocks.items()}
        return Side(blocks, self.modulation[number : number + 1], self.rotation)

    @property
    def nbytes(self) -> int:
        """Memory that it takes in bytes."""
        return sum(each.nbytes for each in self.blocks.values())


def sides(
    unet: Any,  # noqa: ANN401 - a transformer
    given: Evaluated,
    needs: Mapping[str, frozenset[Need]],
    memory: int,
    between: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Side]]:
    """Evaluate a transformer on what it was given; yield the number of each evaluation, and its pixels' side.

    As many evaluations are made at a time as fit in `memory` bytes by an estimate. The first batch runs to its end, and its
    prediction is compared with the capture's; later ones end after the last block that is needed.

    Raises `TraceMismatchError` when it predicts something else than it did.
    """
    attentions = joint_attentions(unet)
    count, done = len(given.samples), 0
    rows = max(1, memory // bytes_of_one(unet, given.samples, given.conditions["encoder_hidden_states"], needs))
    while done < count:
        some = slice(done, min(done + rows, count))
        try:
            side = _side(unet, given, some, {name: (attentions[name], need) for name, need in needs.items()})
        except RuntimeError as error:
            if some.stop - some.start == 1 or not out_of_memory(error):
                raise
            rows = (some.stop - some.start + 1) // 2
            continue
        for number in range(some.stop - some.start):
            yield done + number, side.row(number)
        done = some.stop
        between()


def bytes_of_one(unet: Any, samples: Tensor, text: Tensor, needs: Mapping[str, frozenset[Need]]) -> int:  # noqa: ANN401
    """Return about how much memory a pass takes for each evaluation: what it computes at a time, and what it keeps."""
    vectors = {"values": 2, "output": 1, "words": 1, "mass": 1, "pixels": 2}
    kept = sum(vectors[each] for need in needs.values() for each in need)
    return transformer_bytes(unet, samples, text.shape[1]) + kept * transformer_bytes(unet, samples) // VECTORS_AT_ONCE


class _EnoughError(Exception):
    """All that was needed has been computed."""


def _side(unet: Any, given: Evaluated, rows: slice, needs: Mapping[str, tuple[Any, frozenset[Need]]]) -> Side:  # noqa: ANN401
    """Evaluate a transformer on some rows, and keep what is needed."""
    seen = _Seen(get_ident(), set(needs), whole=rows.start == 0)
    with ExitStack() as hooks:
        first = unet.transformer_blocks[0]
        hooks.callback(first.register_forward_pre_hook(seen.begin, with_kwargs=True).remove)
        for name, (attention, need) in needs.items():
            if "output" in need:
                hooks.callback(attention.to_out[0].register_forward_pre_hook(seen.output(name)).remove)
            hooks.callback(attention.register_forward_hook(seen.attended(name, need), with_kwargs=True).remove)
        with suppress(_EnoughError):
            predict(unet, given, rows)
    return Side(seen.blocks, seen.modulation, part_of(seen.rotation, 0, seen.words))


@dataclass(eq=False)
class _Seen:
    """What the hooks of one pass keep; those of other threads' passes are none of its."""

    thread: int
    waiting: set[str]
    whole: bool
    words: int = 0
    modulation: Tensor = field(default_factory=lambda: torch.empty(0))
    rotation: Rotation = None
    blocks: dict[str, BlockSide] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def begin(self, _block: nn.Module, _args: tuple[Any, ...], options: dict[str, Any]) -> None:
        if get_ident() == self.thread:
            self.words = options["encoder_hidden_states"].shape[1]
            self.modulation = options["temb"] if "temb" in options else options["temb_mod_txt"]
            self.rotation = options.get("image_rotary_emb")

    def output(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
            if get_ident() == self.thread:
                self.outputs[name] = args[0].clone()

        return hook

    def attended(self, name: str, need: frozenset[Need]) -> Callable[..., None]:
        def hook(attention: Any, _args: tuple[Any, ...], options: dict[str, Any], _output: Any) -> None:  # noqa: ANN401
            if get_ident() != self.thread:
                return
            if need != {"output"}:
                pixels, words = self._projections(attention, name, options)
                self.blocks[name] = _kept(need, pixels, words, self.outputs.get(name))
            else:
                self.blocks[name] = BlockSide(output=self.outputs[name])
            self.waiting.discard(name)
            if not self.waiting and not self.whole:
                raise _EnoughError

        return hook

    def _projections(self, attention: Any, name: str, options: dict[str, Any]) -> tuple[Projections, Projections]:  # noqa: ANN401
        """Project pixels and words as the block does."""
        count, states = self.words, options["hidden_states"]
        if of_two_streams(name):
            pixels = of_pixels(attention, states, part_of(self.rotation, count, None))
            return pixels, of_words(attention, options["encoder_hidden_states"], part_of(self.rotation, 0, count))
        both = vars(of_pixels(attention, states, self.rotation))
        words, pixels = ({part: each[:, :, some] for part, each in both.items()} for some in (slice(count), slice(count, None)))
        return Projections(**pixels), Projections(**words)


def _kept(need: frozenset[Need], pixels: Projections, words: Projections, output: Tensor | None) -> BlockSide:
    """Return what is needed of a block."""
    keys = pixels.keys if need & {"values", "pixels"} else None
    return BlockSide(
        keys=keys,
        values=pixels.values if "values" in need else None,
        queries=pixels.queries if need & {"words", "pixels"} else None,
        output=output,
        words=words.keys if "words" in need else None,
        mass=log_mass(pixels.queries, pixels.keys) if "mass" in need else None,
    )


def log_mass(
    queries: Float[Tensor, "rows heads pixels head_dim"], keys: Float[Tensor, "rows heads pixels head_dim"]
) -> Float[Tensor, "rows heads pixels"]:
    """Return the logarithm of the sum of exp(score) over all pixels, in single precision, some pixels at a time."""
    scale, exact = queries.shape[-1] ** -0.5, torch.promote_types(queries.dtype, torch.float32)
    rows, heads, pixels, _ = queries.shape
    step = max(1, _SCORES_AT_A_TIME // (rows * heads * pixels))
    turned = keys.to(exact).transpose(-1, -2)
    parts = [(part.to(exact) * scale @ turned).logsumexp(dim=-1) for part in queries.split(step, dim=2)]
    return torch.cat(parts, dim=-1)
