"""What a UNet is given at an evaluation, and the part of it that is kept for a replay."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from ovam.errors import NotReplayableError, shown
from ovam.tracing.model import ATTENTION_OPTIONS

FIRST: Final = ("sample", "timestep", "encoder_hidden_states")
"""The arguments that pipelines give a UNet by position; a transformer gets its sample alone so, or by name."""
POSITIONS: Final = ("img_ids", "txt_ids")
"""Where pixels and words are: the same for all rows of the batch."""
RESIDUALS: Final = (
    "down_block_additional_residuals",
    "mid_block_additional_residual",
    "down_intrablock_additional_residuals",
    "block_controlnet_hidden_states",
    "controlnet_block_samples",
    "controlnet_single_block_samples",
)
"""What a ControlNet or a T2I adapter adds: at every evaluation as many numbers as the queries have."""

Kept = dict[str, Tensor]
"""Inputs by name, in which a dot leads into a dict or a list: `added_cond_kwargs.text_embeds`."""


def sample_of(args: Sequence[Any], options: Mapping[str, Any]) -> Tensor:
    """Return the latents that a UNet, or a transformer, is called with."""
    return args[0] if args else options["sample"] if "sample" in options else options["hidden_states"]


def inputs_of(args: Sequence[Any], options: Mapping[str, Any], rows: slice) -> Kept:
    """Return the tensors that a UNet is called with, `rows` of those that have a row for each of the batch.

    `timestep` has no such rows unless it is given one for each. Raises `NotReplayableError` for inputs that are no tensors,
    or too large to be worth keeping.
    """
    if len(args) > len(FIRST):
        raise NotReplayableError(f"the UNet was called with {len(args)} arguments by position; allowed: {', '.join(FIRST)}")
    given = dict(zip(FIRST, args, strict=False)) | {name: value for name, value in options.items() if name != "return_dict"}
    if "hidden_states" in given:
        given["sample"] = given.pop("hidden_states")
    if any(given.get(name) is not None for name in RESIDUALS):
        raise NotReplayableError(
            "a ControlNet or T2I adapter adds residuals at every evaluation, which are as large as the queries; keep the queries"
        )
    for name in ATTENTION_OPTIONS:
        scale = given.pop(name, None)
        if scale and scale != {"scale": 1.0}:
            raise NotReplayableError(f"{name} is {shown(scale)}, which a replay cannot keep; keep the queries")
    timestep = _timestep(given.pop("timestep"))
    batch = given["sample"].shape[0]
    kept = {name: _rows(name, tensor, batch, rows) for name, tensor in _flat("", given)}
    return kept | {"timestep": timestep[rows][0] if timestep.ndim and len(timestep) == batch else timestep.reshape(-1)[0]}


def options_of(kept: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return inputs as a UNet is called with them."""
    tree: dict[str, Any] = {}
    for name, each in kept.items():
        tensor = each[0] if name in POSITIONS else each
        *path, last = name.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = tensor
    return {name: _lists(value) for name, value in tree.items()}


def _timestep(value: object) -> Tensor:
    """Return a timestep as the UNet turns it into a tensor."""
    return value.detach() if isinstance(value, Tensor) else torch.tensor(value, dtype=_type_of(value))


def _type_of(value: object) -> torch.dtype:
    return torch.float64 if isinstance(value, float) else torch.int64


def _flat(prefix: str, value: object) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in a value, by name."""
    match value:
        case None:
            return
        case Tensor():
            yield prefix, value
        case Mapping():
            for name, part in value.items():
                yield from _flat(f"{prefix}.{name}" if prefix else str(name), part)
        case list() | tuple():
            for number, part in enumerate(value):
                yield from _flat(f"{prefix}.{number}", part)
        case _:
            raise NotReplayableError(f"the UNet was called with {prefix}={shown(value)}, which a replay cannot keep")


def _rows(name: str, tensor: Tensor, batch: int, rows: slice) -> Tensor:
    if name in POSITIONS:
        return tensor[:1] if tensor.ndim == 3 else tensor[None]
    if tensor.ndim == 0 or tensor.shape[0] not in (1, batch):
        raise NotReplayableError(f"{name} has the shape {tuple(tensor.shape)}, not a row for each of {batch} in the UNet's batch")
    return tensor[rows] if tensor.shape[0] == batch else tensor


def _lists(value: Any) -> Any:  # noqa: ANN401 - a tensor, or a dict
    """Turn dicts whose names are 0, 1, ... into the lists that they were."""
    if not isinstance(value, dict):
        return value
    parts = {name: _lists(part) for name, part in value.items()}
    return [parts[name] for name in parts] if all(name.isdigit() for name in parts) else parts
