"""A trace: the pixel queries that one image left behind in every cross-attention block (Eq. 1)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ovam.core.tensor_files import layout_of
from ovam.errors import InvalidArgumentError, TraceFormatError, TraceMismatchError
from ovam.tracing.blocks import Block, SelfAttention
from ovam.tracing.families import UNET, family_of
from ovam.tracing.features import Features
from ovam.tracing.joint_trace import Joint, PixelAttention
from ovam.tracing.keys import CapturedKeys, differ, fingerprint, place_of, text_width
from ovam.tracing.model import Pipeline, cross_attentions, plain_unet
from ovam.tracing.quantised import quantised
from ovam.tracing.trace_files import FORMAT, FORMATS, bind, parse, sealed, self_attention_of, size_of, written_keys

Half = Literal["conditional", "unconditional"]


READERS: dict[str, Callable[[bytes, Pipeline], "Trace"]] = {}
"""By kind of file: who reads a trace from it, where that takes more than this module knows."""


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
    self_attention: tuple[SelfAttention | PixelAttention, ...] = ()
    """The self-attentions on the largest grid, if they were kept."""
    clip_skip: int | None = None
    """How many layers of the text encoder the generation left out; attribution prompts are encoded in the same way."""
    joint: Joint | None = None
    """Of a model whose pixels and text attend together: what it was given. Such a trace has no blocks: any attention is computed
    from that when it is asked for."""
    prompt: str | None = None
    """What the image was drawn for, where joint attention is to be asked for its words."""
    family: str = UNET.name
    """The family of the model."""
    features: Features | None = None
    """What the UNet's blocks gave out, if it was kept; no file holds it, since a replay computes it again."""

    @property
    def width(self) -> int:
        """Length of the rows of a text embedding that fits this trace."""
        if self.joint is not None:
            return self.joint.width
        return text_width(self.blocks[0].to_k)

    @property
    def device(self) -> torch.device:
        """Where heatmaps are computed."""
        return self.blocks[0].queries.device if self.joint is None else place_of(self.joint.unet)

    @property
    def nbytes(self) -> int:
        """Memory that the queries and all that was kept with them take in bytes."""
        if self.joint is not None:
            return self.joint.replay.nbytes
        pixels = sum(block.queries.nbytes + block.keys.nbytes for block in self.self_attention)
        keys = sum(block.to_k.weight.nbytes for block in self.blocks if isinstance(block.to_k, CapturedKeys))
        features = 0 if self.features is None else self.features.nbytes
        parts = sum(block.contribution.nbytes for block in self.blocks if block.contribution is not None)
        return pixels + keys + features + parts + sum(block.queries.nbytes for block in self.blocks)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Trace":
        """Return a trace with its tensors on another device or in another floating type.

        What is computed when it is asked for is computed where the model is, in its type, and not yet. Raises
        `InvalidArgumentError` for a type of whole numbers; `to_bytes` writes queries as such.
        """
        if dtype is not None and not dtype.is_floating_point:
            raise InvalidArgumentError("dtype", dtype, "a floating type")
        if self.joint is not None:
            joint = replace(self.joint, _kept={})
            return replace(self, joint=joint, self_attention=(PixelAttention(joint),))

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device=device, dtype=dtype)

        def stays(*tensors: Tensor) -> bool:  # then the block stays, and what was computed from it
            return all(move(each) is each for each in tensors)

        blocks = tuple(
            replace(block, queries=move(block.queries), contribution=block.contribution and block.contribution.to(device))
            for block in self.blocks
        )
        pixels = tuple(
            block if stays(block.queries, block.keys) else replace(block, queries=move(block.queries), keys=move(block.keys))
            for block in self.self_attention
            if isinstance(block, SelfAttention)
        )
        features = None if self.features is None else self.features.to(device, dtype)
        return replace(self, blocks=blocks, self_attention=pixels, features=features)

    def to_bytes(self, dtype: torch.dtype | None = None) -> bytes:
        """Write one safetensors file: queries, self-attentions and fingerprints of the keys; all else as JSON in its header.

        Keys that adapters had a part in are written whole, so that the file is read into a pipeline without them.

        `dtype` is a floating type to store queries in, by default their own; fp16 halves the size. `torch.int8` halves it
        again: steps of a scale for each channel. Every evaluation of a block has a checksum, and may be read alone:
        `ovam.tracing.stored`.
        """
        if dtype is not None and not dtype.is_floating_point and dtype != torch.int8:
            raise InvalidArgumentError("dtype", dtype, "a floating type, or torch.int8")
        if self.joint is not None:
            return self.joint.replay.to_bytes()
        if any(block.positions is not None for block in self.blocks):
            raise InvalidArgumentError("trace", "one with a part of its evaluations in memory", "a whole one")
        header = {
            "format": FORMAT,
            "blocks": [{"name": b.name, "grid": b.grid, "scale": b.scale, "width": text_width(b.to_k),
                        "heads": b.head_indices} for b in self.blocks],
            "self_attention": [{"name": b.name, "grid": b.grid, "scale": b.scale, **({"linear": True} if b.linear else {})}
                               for b in self.self_attention],
            "evaluations": self.evaluations,
            "timesteps": self.timesteps,
            "latent_size": self.latent_size,
            "image_size": self.image_size,
            "half": self.half,
            "clip_skip": self.clip_skip,
        }  # fmt: skip
        tensors = {block.name: block.queries for block in self.blocks}
        for block in self.self_attention:
            tensors |= {f"{block.name}.queries": block.queries, f"{block.name}.keys": block.keys}
        stored: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            if dtype == torch.int8:
                stored[name], stored[f"{name}.scales"] = quantised(tensor)
            else:
                stored[name] = tensor.to(dtype=dtype)
        keys = [written_keys(block) for block in self.blocks]
        return sealed("trace", header, {name: each for part in (stored, *keys) for name, each in part.items()}, [*stored])

    @classmethod
    def from_bytes(cls, data: bytes, pipeline: Pipeline) -> "Trace":
        """Read what `to_bytes` wrote, on the CPU, and bind it to the key projections of `pipeline`.

        Raises `TraceFormatError` for bytes that are not a whole trace, with the name of a damaged tensor, `TraceMismatchError`
        when the pipeline's UNet lacks a block of the trace, or has another width or other weights there.
        """
        reader = READERS.get(layout_of(data).kind)
        if reader is not None and family_of(plain_unet(pipeline)).joint:
            return reader(data, pipeline)
        header, tensors = parse(data, "trace")
        return cls.joined(header, tensors, pipeline)

    @classmethod
    def joined(
        cls,
        header: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        pipeline: Pipeline,
        positions: tuple[int, ...] | None = None,
    ) -> "Trace":
        """Join the tensors of a file, of some evaluations or of all, with a pipeline; see `from_bytes`."""
        attentions = cross_attentions(plain_unet(pipeline))
        if header.get("format") not in FORMATS:
            raise TraceFormatError(f"the trace's format is {header.get('format')!r}; allowed: {', '.join(FORMATS)}")
        try:
            blocks = tuple(bind(entry, tensors, header, attentions, positions) for entry in header["blocks"])
            trace = cls(
                blocks=blocks,
                evaluations=tuple(int(index) for index in header["evaluations"]),
                timesteps=tuple(float(step) for step in header["timesteps"]),
                latent_size=size_of(header["latent_size"]),
                image_size=size_of(header["image_size"]),
                half=header["half"],
                self_attention=tuple(self_attention_of(entry, tensors, header) for entry in header["self_attention"]),
                clip_skip=None if header["clip_skip"] is None else int(header["clip_skip"]),
                family=family_of(plain_unet(pipeline)).name,
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise TraceFormatError(f"the trace's header lacks or garbles a field: {error!r}") from error
        if not blocks or trace.half not in get_args(Half):
            raise TraceFormatError(f"the trace holds {len(blocks)} blocks of half {trace.half!r}")
        trace.require_same_keys()
        return trace

    def require_same_keys(self) -> None:
        """Raise `TraceMismatchError` unless the key projections are what they were at capture."""
        if self.joint is not None:
            self.joint.require_same()
        known = [(block, block.fingerprint) for block in self.blocks if block.fingerprint is not None]
        others = [block.name for block, then in known if differ(fingerprint(block.to_k), then)]
        if others:
            raise TraceMismatchError(
                f"the key weights of {len(others)} of {len(known)} blocks, {others[0]!r} first, are not those of the capture: "
                "another checkpoint, or weights that were loaded, fused or unfused since"
            )


def require_trace(trace: object) -> None:
    """Raise `InvalidArgumentError` for anything but one trace, such as the list that `capture` fills."""
    if isinstance(trace, list | tuple):
        raise InvalidArgumentError("trace", f"a list of {len(trace)}", "one Trace, such as traces[0]; call once for each image")
    if not isinstance(trace, Trace):
        raise InvalidArgumentError("trace", type(trace).__name__, "a Trace")
