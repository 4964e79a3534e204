"""What a UNet is given during a generation, collected evaluation by evaluation for the replays of its images."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ovam.errors import NotReplayableError
from ovam.tracing.binding import Binding, binding_of
from ovam.tracing.inputs import Kept, inputs_of, sample_of

OTHER: Final = "other."
"""Before the name of an input of the other half of guidance; the sample and the timestep are those of the half that is kept."""


class Given:
    """Inputs of one call of a pipeline, and of every evaluation a line of what the UNet predicted.

    An input that is one tensor at all evaluations, such as the text's embedding, is kept once.
    """

    def __init__(self) -> None:
        self.binding: Binding = {}
        self.channels_last = False
        """Whether the samples lie in memory channel by channel of a pixel, as those of images do: kernels go by it."""
        self._inputs: list[Kept] = []
        self._witnesses: list[Tensor] = []
        self._latest: dict[str, tuple[Tensor, int, Tensor]] = {}

    def keep(
        self, unet: nn.Module, args: Sequence[Any], options: Mapping[str, Any], rows: slice, other: slice | None = None
    ) -> None:
        """Keep copies of what the UNet is called with, by `rows` and, where that differs, by those of the `other` half.

        Raises `NotReplayableError`.
        """
        if not self._inputs:
            self.binding = binding_of(unet)
            sample = sample_of(args, options)
            by_pixel = sample.ndim == 4 and sample.is_contiguous(memory_format=torch.channels_last)
            self.channels_last = by_pixel and not sample.is_contiguous()
        given = inputs_of(args, options, rows)
        if other is not None:
            others = inputs_of(args, options, other)
            given |= {f"{OTHER}{name}": others[name] for name in others if name not in ("sample", "timestep")}
        if self._inputs:
            _require_alike(self._inputs[0], given, len(self._inputs))
        self._inputs.append({name: self._copy(name, tensor) for name, tensor in given.items()})

    def witness(self, predicted: Float[Tensor, "images *predicted"]) -> None:
        """Keep the middle line of what the UNet predicted: a replay must predict the same."""
        self._witnesses.append(middle_line(predicted).clone())

    def image(self, image: int) -> tuple[Tensor, Tensor, Kept, Tensor]:
        """Return an image's samples, timesteps, other inputs and witnesses, outside of inference mode."""
        with torch.inference_mode(mode=False):
            samples = torch.stack([each["sample"][image] for each in self._inputs])
            timesteps = torch.stack([each["timestep"].cpu() for each in self._inputs])
            names = [name for name in self._inputs[0] if name not in ("sample", "timestep")]
            conditions = {name: _joined([each[name] for each in self._inputs], image) for name in names}
            return samples, timesteps, conditions, torch.stack([each[image] for each in self._witnesses])

    def _copy(self, name: str, tensor: Tensor) -> Tensor:
        """Copy a tensor, unless it is the one of the evaluation before, unchanged."""
        source = tensor if tensor._base is None else tensor._base  # noqa: SLF001 - rows are a view
        version = -1 if source.is_inference() else source._version  # noqa: SLF001 - the only count of changes
        known = self._latest.get(name)
        if known is not None and known[0] is source and known[1] == version >= 0 and known[2].shape == tensor.shape:
            return known[2]
        copy = tensor.detach().clone(memory_format=torch.contiguous_format)
        self._latest[name] = source, version, copy
        return copy


def _require_alike(first: Kept, given: Kept, evaluation: int) -> None:
    """Raise `NotReplayableError` when an evaluation is given other inputs than the first, or inputs of other sizes."""
    then, now = ({name: tuple(tensor.shape) for name, tensor in each.items()} for each in (first, given))
    names = sorted(name for name in then | now if then.get(name) != now.get(name))
    if names:
        was, became = ({name: sizes.get(name, "nothing") for name in names} for sizes in (then, now))
        raise NotReplayableError(
            f"evaluation {evaluation} is given {became}, the first was given {was}, as where guidance ends on the way; "
            "keep the queries"
        )


def middle_line(predicted: Float[Tensor, "images *predicted"]) -> Float[Tensor, "images channels width"]:
    """Return a line through the middle of what a UNet predicted; of pixels in a row, with their channels last, the middle one."""
    if predicted.ndim == 3:
        return predicted.detach()[:, predicted.shape[1] // 2, None]
    return predicted.detach()[:, :, predicted.shape[2] // 2]


def _joined(given: Sequence[Tensor], image: int) -> Tensor:
    """Stack an image's rows of what was given at every evaluation; a single row if they are the same."""
    rows = [tensor[image if len(tensor) > 1 else 0] for tensor in given]
    same = all(tensor is given[0] for tensor in given) or all(torch.equal(row, rows[0]) for row in rows)
    return rows[0][None].clone() if same else torch.stack(rows)
