"""The parts of a trace's file: a safetensors file whose header names each tensor, with checksums of all its parts."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from ovam.core.tensor_files import checksums_of, layout_of
from ovam.errors import TraceFormatError, TraceMismatchError
from ovam.tracing.blocks import Block, SelfAttention
from ovam.tracing.keys import CapturedKeys, text_width
from ovam.tracing.quantised import dequantised

FORMAT: Final = "ovam-trace/4"
FORMATS: Final = ("ovam-trace/3", FORMAT)
"""The formats that are read; the third has no checksums."""


def sealed(kind: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor], by_row: Sequence[str] = ()) -> bytes:
    """Write a file whose header holds checksums of its tensors: one for each, or one for each row of those that are read so."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    checksums = {
        name: checksums_of([raw(row) for row in tensor] if name in by_row else [raw(tensor)]) for name, tensor in stored.items()
    }
    return safetensors.save(stored, metadata={kind: json.dumps({**header, "checksums": checksums})})


def parse(data: bytes, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Split a file into its header and its tensors. Raises `TraceFormatError`, which names a damaged tensor."""
    layout = layout_of(data)
    if layout.kind != kind:
        raise TraceFormatError(f"the file holds a {layout.kind}, not a {kind}")
    if damaged := layout.damaged(data):
        raise TraceFormatError(damaged[0])
    try:
        return dict(layout.header), safetensors.load(data)
    except SafetensorError as error:
        raise TraceFormatError(f"{len(data)} bytes that are not a {kind}: {error}") from error


def raw(tensor: Tensor) -> bytes:
    """Return a tensor's bytes."""
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def bind(
    entry: dict[str, Any],
    tensors: Mapping[str, Tensor],
    header: Mapping[str, Any],
    attentions: Mapping[str, Any],
    positions: tuple[int, ...] | None = None,
) -> Block:
    """Join a block's stored queries, of some evaluations or of all, with the module of the same name."""
    name, grid = entry["name"], size_of(entry["grid"])
    queries = _checked(tensors, name, grid, header)
    heads = entry.get("heads")
    if heads is not None and len(heads) != queries.shape[1]:
        raise ValueError(name, queries.shape, heads)
    if name not in attentions:
        raise TraceMismatchError(f"the trace has a block {name!r}, the pipeline's UNet has not")
    attention = attentions[name]
    to_k = read_keys(name, tensors, attention.to_k) or getattr(attention.to_k, "base_layer", attention.to_k)
    total = queries.shape[1] if heads is None else max(attention.heads, *(head + 1 for head in heads))
    stored = (entry["width"], total, queries.shape[3])
    present = (text_width(attention.to_k), attention.heads, attention.to_k.out_features // attention.heads)
    if stored != present:
        message = f"block {name!r}: (text width, heads, head_dim) is {stored} in the trace, {present} in the pipeline"
        raise TraceMismatchError(message)
    known = tensors.get(f"{name}.fingerprint")
    if known is not None and (known.ndim != 1 or not known.is_floating_point()):
        raise ValueError(name, known.dtype, known.shape)
    kept = None if heads is None else tuple(heads)
    return Block(name, grid, float(entry["scale"]), queries, to_k, kept, known, positions)


def written_keys(block: Block) -> dict[str, Tensor]:
    """Return what a file holds of a block's keys: their fingerprint, and their matrix where adapters had a part in it."""
    found = {} if block.fingerprint is None else {f"{block.name}.fingerprint": block.fingerprint}
    to_k = getattr(block.to_k, "to_k", block.to_k)  # behind the projection of captions, which has no adapters
    if isinstance(to_k, CapturedKeys):
        found[f"{block.name}.to_k.weight"] = to_k.weight.detach()
        if to_k.bias is not None:
            found[f"{block.name}.to_k.bias"] = to_k.bias.detach()
    return found


def read_keys(name: str, tensors: Mapping[str, Tensor], present: Any) -> Any:  # noqa: ANN401 - projections
    """Return the key projection that a file holds for a block, or `None`; it has the shape of the model's present one."""
    like = getattr(present, "to_k", present)
    weight, bias = tensors.get(f"{name}.to_k.weight"), tensors.get(f"{name}.to_k.bias")
    if weight is None:
        return None
    if not weight.is_floating_point() or weight.shape != (like.out_features, text_width(like)):
        raise ValueError(name, weight.dtype, weight.shape)
    with torch.no_grad():
        keys = CapturedKeys(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
        keys.weight.copy_(weight)
        if bias is not None:
            keys.bias.copy_(bias)
    keys.requires_grad_(requires_grad=False)
    return keys if like is present else present.projecting(keys)


def self_attention_of(entry: dict[str, Any], tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> SelfAttention:
    """Return a self-attention from its two stored tensors."""
    name, grid = entry["name"], size_of(entry["grid"])
    queries, keys = (_checked(tensors, f"{name}.{part}", grid, header) for part in ("queries", "keys"))
    if queries.shape != keys.shape:
        raise ValueError(name, queries.shape, keys.shape)
    return SelfAttention(name, grid, float(entry["scale"]), queries, keys, bool(entry.get("linear")))


def _checked(tensors: Mapping[str, Tensor], name: str, grid: tuple[int, int], header: Mapping[str, Any]) -> Tensor:
    """Return a stored tensor when its shape agrees with the header; the first dimension holds the evaluations that were read."""
    tensor = dequantised(tensors[name], tensors.get(f"{name}.scales"))
    evaluations = header.get("read", len(header["evaluations"]))
    if tensor.ndim != 4 or not tensor.is_floating_point():
        raise ValueError(name, tensor.dtype, tensor.shape)
    if tensor.shape[0] != evaluations or len(header["evaluations"]) != len(header["timesteps"]):
        raise ValueError(name, tensor.shape, evaluations)
    if tensor.shape[2] != grid[0] * grid[1]:
        raise ValueError(name, tensor.shape, grid)
    return tensor


def size_of(pair: Sequence[int]) -> tuple[int, int]:
    """Return a (height, width) from JSON."""
    height, width = pair
    return int(height), int(width)
