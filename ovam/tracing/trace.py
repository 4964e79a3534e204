"""A trace: the pixel queries that one image left behind in every cross-attention block (Eq. 1)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from ovam.errors import InvalidArgumentError, TraceFormatError, TraceMismatchError
from ovam.tracing.model import Pipeline, cross_attentions, plain_unet, text_width

Half = Literal["conditional", "unconditional"]

_FORMAT = "ovam-trace/2"
_READABLE = ("ovam-trace/1", _FORMAT)  # 1 knows no chosen heads and no self-attention
_LENGTH_BYTES = 8


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
    """The block's own key projection; called, its weight never read, so that adapters on it count."""
    head_indices: tuple[int, ...] | None = None
    """Which of the block's heads were kept; `None` for all."""

    @property
    def heads(self) -> int:
        """Number of attention heads that were kept."""
        return self.queries.shape[1]

    def keys(self, embedding: Float[Tensor, "tokens text_width"]) -> Float[Tensor, "heads tokens head_dim"]:
        """Project a text embedding to attribution keys, in the queries' type and place (Eq. 4)."""
        parameter = next(self.to_k.parameters())
        keys = self.to_k(embedding.to(parameter.device, parameter.dtype))
        keys = keys.unflatten(-1, (-1, self.queries.shape[-1])).transpose(0, 1)
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


@dataclass(frozen=True, eq=False)
class Trace:
    """What one image left behind in the UNet: enough to attribute any text to its pixels.

    >>> data = trace.to_bytes(dtype=torch.float16)
    >>> again = ovam.Trace.from_bytes(data, pipeline)
    >>> again.image_size == trace.image_size, again.nbytes == trace.nbytes / 2
    (True, True)
    """

    blocks: tuple[Block, ...]
    evaluations: tuple[int, ...]
    """Which UNet evaluations were kept, counted from 0 within the image's own generation."""
    timesteps: tuple[float, ...]
    """The diffusion timestep of every kept evaluation; a scheduler may repeat one."""
    latent_size: tuple[int, int]
    """(height, width) of the latent."""
    image_size: tuple[int, int]
    """(height, width) of the image."""
    half: Half
    """Which half of the guidance batch the queries are from."""
    self_attention: tuple[SelfAttention, ...] = ()
    """The self-attentions on the largest grid, when they were asked for."""

    @property
    def width(self) -> int:
        """Length of the rows of a text embedding that fits this trace."""
        return text_width(self.blocks[0].to_k)

    @property
    def nbytes(self) -> int:
        """Memory the queries, and the keys of self-attentions, take in bytes."""
        pixels = sum(block.queries.nbytes + block.keys.nbytes for block in self.self_attention)
        return pixels + sum(block.queries.nbytes for block in self.blocks)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Trace":
        """Return a trace with its tensors on another device or in another floating type."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device=device, dtype=dtype)

        blocks = tuple(replace(block, queries=move(block.queries)) for block in self.blocks)
        pixels = tuple(replace(block, queries=move(block.queries), keys=move(block.keys)) for block in self.self_attention)
        return replace(self, blocks=blocks, self_attention=pixels)

    def to_bytes(self, dtype: torch.dtype | None = None) -> bytes:
        """Write one safetensors file: a tensor per block, two per self-attention, all else as JSON in its header.

        `dtype` is a floating type to store them in, by default their own; fp16 halves the size.
        """
        if dtype is not None and not dtype.is_floating_point:
            raise InvalidArgumentError("dtype", dtype, "a floating type")
        header = {
            "format": _FORMAT,
            "blocks": [{"name": b.name, "grid": b.grid, "scale": b.scale, "width": text_width(b.to_k),
                        "heads": b.head_indices} for b in self.blocks],
            "self_attention": [{"name": b.name, "grid": b.grid, "scale": b.scale} for b in self.self_attention],
            "evaluations": self.evaluations,
            "timesteps": self.timesteps,
            "latent_size": self.latent_size,
            "image_size": self.image_size,
            "half": self.half,
        }  # fmt: skip
        tensors = {block.name: block.queries for block in self.blocks}
        for block in self.self_attention:
            tensors |= {f"{block.name}.queries": block.queries, f"{block.name}.keys": block.keys}
        stored = {name: tensor.to(dtype=dtype).contiguous() for name, tensor in tensors.items()}
        return safetensors.save(stored, metadata={"trace": json.dumps(header)})

    @classmethod
    def from_bytes(cls, data: bytes, pipeline: Pipeline) -> "Trace":
        """Read what this or an earlier `to_bytes` wrote, on the CPU, and bind it to the key projections of `pipeline`.

        Raises `TraceFormatError` for bytes that are not a whole trace, `TraceMismatchError` when the
        pipeline's UNet lacks a block of the trace or has another width there.
        """
        header, tensors = _parse(data)
        attentions = cross_attentions(plain_unet(pipeline))
        try:
            blocks = tuple(_bind(entry, tensors, header, attentions) for entry in header["blocks"])
            trace = cls(
                blocks=blocks,
                evaluations=tuple(int(index) for index in header["evaluations"]),
                timesteps=tuple(float(step) for step in header["timesteps"]),
                latent_size=_size(header["latent_size"]),
                image_size=_size(header["image_size"]),
                half=header["half"],
                self_attention=tuple(_self_attention(entry, tensors, header) for entry in header.get("self_attention", ())),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise TraceFormatError(f"the trace's header lacks or garbles a field: {error!r}") from error
        if not blocks or trace.half not in get_args(Half):
            raise TraceFormatError(f"the trace holds {len(blocks)} blocks of half {trace.half!r}")
        return trace


def require_trace(trace: object) -> None:
    """Raise `InvalidArgumentError` for anything but one trace, such as the list that `capture` fills."""
    if isinstance(trace, list | tuple):
        raise InvalidArgumentError("trace", f"a list of {len(trace)}", "one Trace, such as traces[0]; call once for each image")
    if not isinstance(trace, Trace):
        raise InvalidArgumentError("trace", type(trace).__name__, "a Trace")


def _parse(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Split a trace file into its header and its tensors."""
    try:
        tensors = safetensors.load(data)
        length = int.from_bytes(data[:_LENGTH_BYTES], "little")
        metadata = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])["__metadata__"]
        header = json.loads(metadata["trace"])
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise TraceFormatError(f"{len(data)} bytes that are not a trace: {error}") from error
    if not isinstance(header, dict) or header.get("format") not in _READABLE:
        raise TraceFormatError(f"the trace's header is of no format in {_READABLE}")
    return header, tensors


def _bind(entry: dict[str, Any], tensors: dict[str, Tensor], header: dict[str, Any], attentions: dict[str, Any]) -> Block:
    """Join a block's stored queries with the module of the same name."""
    name, grid = entry["name"], _size(entry["grid"])
    queries = _checked(tensors[name], name, grid, header)
    heads = entry.get("heads")
    if heads is not None and len(heads) != queries.shape[1]:
        raise ValueError(name, queries.shape, heads)
    if name not in attentions:
        raise TraceMismatchError(f"the trace has a block {name!r}, the pipeline's UNet has not")
    attention = attentions[name]
    total = queries.shape[1] if heads is None else max(attention.heads, *(head + 1 for head in heads))
    stored = (entry["width"], total, queries.shape[3])
    present = (text_width(attention.to_k), attention.heads, attention.to_k.out_features // attention.heads)
    if stored != present:
        message = f"block {name!r}: (text width, heads, head_dim) is {stored} in the trace, {present} in the pipeline"
        raise TraceMismatchError(message)
    kept = None if heads is None else tuple(heads)
    return Block(name, grid, float(entry["scale"]), queries, attention.to_k, kept)


def _self_attention(entry: dict[str, Any], tensors: dict[str, Tensor], header: dict[str, Any]) -> SelfAttention:
    """Take a self-attention from its two stored tensors."""
    name, grid = entry["name"], _size(entry["grid"])
    queries, keys = (_checked(tensors[f"{name}.{part}"], name, grid, header) for part in ("queries", "keys"))
    if queries.shape != keys.shape:
        raise ValueError(name, queries.shape, keys.shape)
    return SelfAttention(name, grid, float(entry["scale"]), queries, keys)


def _checked(tensor: Tensor, name: str, grid: tuple[int, int], header: dict[str, Any]) -> Tensor:
    """Return a stored tensor when its shape agrees with the header."""
    evaluations = len(header["evaluations"])
    if tensor.ndim != 4 or not tensor.is_floating_point():
        raise ValueError(name, tensor.dtype, tensor.shape)
    if tensor.shape[0] != evaluations or evaluations != len(header["timesteps"]):
        raise ValueError(name, tensor.shape, evaluations)
    if tensor.shape[2] != grid[0] * grid[1]:
        raise ValueError(name, tensor.shape, grid)
    return tensor


def _size(pair: Sequence[int]) -> tuple[int, int]:
    """Take a (height, width) from JSON."""
    height, width = pair
    return int(height), int(width)
