"""Batched evaluations of a UNet whose projections are kept, within a bound on memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import get_ident
from typing import Any, Final, TypeVar, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ovam.errors import TraceMismatchError
from ovam.tracing.contributions import Contributing
from ovam.tracing.features import output_of
from ovam.tracing.given import middle_line
from ovam.tracing.inputs import options_of
from ovam.tracing.model import Projection, module_of

HOST_OUT_OF_MEMORY: Final = "can't allocate memory"  # PyTorch's words; the exception is a plain RuntimeError
MAPS_AT_ONCE: Final = 48  # feature maps of the first block's size that an evaluation has at a time, about
VECTORS_AT_ONCE: Final = 24  # of its width that a transformer has for each row (pixels, joint text) at a time, about
AWAY: Final = {torch.float16: 0.05, torch.bfloat16: 0.1}
"""Relative difference between predictions that batches of other sizes make in half precision; measured far below."""
AWAY_IN_SINGLE: Final = 5e-3  # convolutions of a GPU are in TF32


@dataclass(frozen=True, eq=False)
class Projected:
    """One projection of one attention, some heads of which are wanted."""

    name: str
    projection: Projection
    attention: Any
    heads: tuple[int, ...] | None

    @property
    def module(self) -> nn.Module:
        """The module whose output holds it."""
        return module_of(self.attention, self.projection)[0]

    @classmethod
    def of(cls, name: str, attention: Any, heads: tuple[int, ...] | None, to_text: bool) -> list["Projected"]:  # noqa: ANN401, FBT001
        """Return what a heatmap needs of an attention to the text, or a refinement of one to the pixels."""
        return [cls(name, each, attention, heads) for each in (("queries",) if to_text else get_args(Projection))]

    def taken(self, output: Float[Tensor, "evaluations pixels channels"]) -> Float[Tensor, "evaluations heads pixels head_dim"]:
        """Split the channels by head, and take the wanted ones."""
        _, part, parts = module_of(self.attention, self.projection)
        rows = output.unflatten(-1, (parts, -1))[:, :, part]
        heads = rows.unflatten(-1, (self.attention.heads, -1)).transpose(1, 2)
        return heads if self.heads is None else heads[:, list(self.heads)]


@dataclass(frozen=True, eq=False)
class GivenOut:
    """What one block of the UNet gives out."""

    name: str
    module: nn.Module

    def taken(self, output: Any) -> Float[Tensor, "rows channels height width"]:  # noqa: ANN401 - a tensor, or several
        """Return it."""
        return output_of(output)


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Evaluations that are to be made again, and a line of what each predicted."""

    samples: Float[Tensor, "evaluations *latent"]
    timesteps: Shaped[Tensor, " evaluations"]
    conditions: Mapping[str, Tensor]
    witnesses: Float[Tensor, "evaluations predicted width"]


Wanted = TypeVar("Wanted", Projected, GivenOut)


def evaluated(
    unet: nn.Module,
    given: Evaluated,
    wanted: Sequence[Wanted],
    memory: int,
    between: Callable[[], None],
    contributing: Sequence[Contributing] = (),
) -> dict[Wanted | Contributing, Tensor]:
    """Evaluate the UNet on what it was given, and return what is wanted of it, contributions too: a row for each evaluation.

    Raises `TraceMismatchError` when it predicts something else than it did.
    """
    place, rows, done = _Place(len(given.samples), get_ident()), at_a_time(unet, given.samples, memory), 0
    with ExitStack() as hooks:
        for each in wanted:
            hooks.callback(each.module.register_forward_hook(place.keeping(each)).remove)
        for one in contributing:
            for handle in one.watched(place.batch, place.keep):
                hooks.callback(handle.remove)
        while done < place.count:
            some = slice(done, min(done + rows, place.count))
            try:
                with place.at(some):
                    predict(unet, given, some)
            except RuntimeError as error:
                if some.stop - some.start == 1 or not out_of_memory(error):
                    raise
                rows = (some.stop - some.start + 1) // 2
                continue
            done = some.stop
            between()
    return place.kept


def predict(unet: nn.Module, given: Evaluated, rows: slice) -> None:
    """Evaluate the UNet on some rows at once. Raises `TraceMismatchError` when it predicts something else than it did."""
    _require_same(_predicted(unet, given, rows), given.witnesses[rows], rows.start)


class _Place:
    """Where what is wanted of the running batch belongs; nowhere while other work uses the UNet."""

    def __init__(self, count: int, thread: int) -> None:
        self.count = count
        self.kept: dict[Any, Tensor] = {}
        self._thread = thread
        self._rows: slice | None = None

    @contextmanager
    def at(self, rows: slice) -> Iterator[None]:
        """Keep what is computed inside the `with` as that of some evaluations."""
        self._rows = rows
        try:
            yield
        finally:
            self._rows = None

    def batch(self) -> slice | None:
        """Return which rows of the running batch are wanted: all, or of other work none."""
        return None if self._rows is None or get_ident() != self._thread else slice(None)

    def keep(self, wanted: Projected | GivenOut | Contributing, found: Tensor) -> None:
        """Write what was found in the running batch into one tensor for all evaluations."""
        if wanted not in self.kept:
            self.kept[wanted] = torch.empty((self.count, *found.shape[1:]), dtype=found.dtype, device=found.device)
        self.kept[wanted][self._rows] = found

    def keeping(self, wanted: Projected | GivenOut) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        """Make a hook that keeps the wanted channels."""

        def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401 - a tensor, or several
            if self.batch() is not None:
                self.keep(wanted, wanted.taken(output))

        return hook


def at_a_time(unet: Any, samples: Tensor, memory: int) -> int:  # noqa: ANN401 - a UNet
    """Return how many evaluations to make at a time, by an estimate of what each takes."""
    if "block_out_channels" not in unet.config:
        return max(1, memory // transformer_bytes(unet, samples))
    height, width = samples.shape[-2:]
    of_one = height * width * unet.config.block_out_channels[0] * samples.element_size() * MAPS_AT_ONCE
    return max(1, memory // of_one)


def transformer_bytes(unet: Any, samples: Tensor, rows: int = 0) -> int:  # noqa: ANN401 - a transformer
    """Return about how much memory one evaluation takes besides weights; `rows` of a text run beside the pixels."""
    pixels = samples.shape[1] if samples.ndim == 3 else samples.shape[-2] * samples.shape[-1] // unet.config.patch_size**2
    width = unet.config.num_attention_heads * unet.config.attention_head_dim
    return (pixels + rows) * width * samples.element_size() * VECTORS_AT_ONCE


def out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the host, had not enough memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or HOST_OUT_OF_MEMORY in str(error)


def _predicted(unet: Any, given: Evaluated, rows: slice) -> Tensor:  # noqa: ANN401 - a UNet
    """Evaluate the UNet on some rows at once.

    `forward` is called, and not the module: captures hook that, and a generation that breathes may be captured meanwhile.
    """
    samples, count = given.samples[rows], len(given.samples)
    conditions = {
        name: tensor[rows] if len(tensor) == count else tensor.expand(len(samples), *tensor.shape[1:])
        for name, tensor in given.conditions.items()
    }
    return unet.forward(samples, timestep=given.timesteps[rows], **options_of(conditions), return_dict=False)[0]


def _require_same(predicted: Tensor, witnesses: Tensor, first: int) -> None:
    """Raise `TraceMismatchError` unless lines of predictions are those of the capture; such as are no numbers tell nothing."""
    now, then = middle_line(predicted).double().flatten(1), witnesses.double().flatten(1)
    away = (now - then).norm(dim=1) / then.norm(dim=1)
    bound = AWAY.get(predicted.dtype, AWAY_IN_SINGLE)
    wrong = ((away > bound) & then.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if wrong:
        raise TraceMismatchError(
            f"evaluation {first + wrong[0]} predicts something else than at capture (relative difference "
            f"{float(away[wrong[0]]):.2g}; allowed: {bound}), although weights and adapters are the same: "
            "the UNet, or its attention processors, were changed in another way"
        )
