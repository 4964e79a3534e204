"""A replay: what the UNet was given while an image was generated, from which it computes the queries again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ovam.core.selection import Blocks, FeatureChoice, Positions, select_blocks, select_positions
from ovam.core.settings import checked
from ovam.errors import FeaturesNotKeptError, TraceFormatError, TraceMismatchError
from ovam.tracing.binding import Binding, require_bound
from ovam.tracing.blocks import Block, Layer, SelfAttention
from ovam.tracing.contributions import Contributing, Contribution
from ovam.tracing.families import family_of
from ovam.tracing.features import Feature, Features, chosen_features, feature_blocks
from ovam.tracing.given import OTHER
from ovam.tracing.joint_trace import Joint, PixelAttention
from ovam.tracing.keys import captured, fingerprint, place_of
from ovam.tracing.model import Pipeline, cross_attentions, is_linear, plain_unet, self_attentions
from ovam.tracing.passes import Evaluated, GivenOut, Projected, evaluated
from ovam.tracing.trace import READERS, Half, Trace
from ovam.tracing.trace_files import parse, sealed, size_of

FORMAT: Final = "ovam-replay/2"
FORMATS: Final = ("ovam-replay/1", FORMAT)
"""The formats that are read; the first has no inputs of the other half, from which features are computed."""
TIMESTEPS: Final = 1000
MEMORY: Final = 2 << 30  # bytes that a pass may take besides the queries, about


@dataclass(frozen=True, eq=False)
class Replay:
    """What a UNet was given while an image was generated: some hundred times smaller than the queries that it computed from it.

    >>> with ovam.capture_replay(pipeline) as replays:
    ...     image = pipeline("a cat", num_inference_steps=2).images[0]
    >>> again = ovam.Replay.from_bytes(replays[0].to_bytes())
    >>> trace = again.trace(pipeline, self_attention=True)
    >>> again.nbytes < trace.nbytes, len(trace.evaluations)
    (True, 2)
    """

    samples: Float[Tensor, "evaluations *latent"]
    """The UNet's input as the scheduler scaled it."""
    timesteps: Shaped[Tensor, " evaluations"]
    """In the type that the scheduler gave them."""
    conditions: Mapping[str, Tensor]
    """All other inputs by name: one row, or one for each evaluation. Names that begin with `other.` are of the other half."""
    witnesses: Float[Tensor, "evaluations predicted latent_width"]
    """A line of what the UNet predicted; a replay that predicts another computes other queries, too."""
    layers: tuple[Layer, ...]
    binding: Binding
    """What the UNet computed by: weights, adapters, type."""
    evaluations: tuple[int, ...]
    """Which UNet evaluations were kept, counted from 0 within the image's own generation."""
    image_size: tuple[int, int]
    """(height, width) of the image."""
    half: Half
    """Which half of the guidance batch it is."""
    clip_skip: int | None = None
    """See `Trace.clip_skip`."""
    channels_last: bool = False
    """Whether the samples lay in memory channel by channel: kernels, and so the last bits, go by it."""
    prompt: str | None = None
    """See `Trace.prompt`."""
    latents: tuple[int, int] | None = None
    """(height, width) of the latent where its pixels lie in a row."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes in bytes."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    @property
    def moments(self) -> tuple[float, ...]:
        """The diffusion timestep of every evaluation, of 1000: a model whose pixels lie in a row is given fractions (FLUX)."""
        return tuple(float(step) * (1 if self.latents is None else TIMESTEPS) for step in self.timesteps)

    @checked
    def trace(
        self,
        pipeline: Pipeline,
        *,
        blocks: Blocks = "all",
        evaluations: Positions | slice = "all",
        self_attention: bool = False,
        features: FeatureChoice | None = None,
        contributions: bool = False,
        memory: int = MEMORY,
        between: Callable[[], None] = lambda: None,
    ) -> Trace:
        """Compute the image's trace again: the queries of some blocks and evaluations, or of all that were to be kept.

        Evaluations are batched, as many as fit in `memory` bytes by an estimate, and fewer when the device's memory runs out.
        In a batch of the size of the capture's the queries are bitwise the same; in another they differ as much as kernels of
        other shapes do (docs/method.md). What the UNet predicts is compared with what it predicted then.

        Args:
            pipeline: The pipeline of the capture, or one with the same weights, adapters and type.
            blocks: Cross-attention blocks; the trace has no others.
            evaluations: Positions among the kept ones; the trace knows of all, but only these can be asked for.
            self_attention: Compute the self-attentions on the largest grid, too.
            features: Compute what the UNet's blocks give out, too; its evaluations are positions among the kept ones.
            contributions: Compute how much heads and blocks contribute, too, for `aggregation="automatic"`.
            memory: Bytes.
            between: Called between two passes.

        Raises `TraceMismatchError`, which says what differs from what; `InvalidArgumentError`, `SelectionError`;
        `FeaturesNotKeptError` where the replay has one half of guidance alone.

        """
        unet = plain_unet(pipeline)
        require_bound(self.binding, unet)
        if family_of(unet).joint:
            return self._joint(unet, blocks, memory, between)
        positions = select_positions(evaluations, len(self.evaluations), "evaluations")
        names = set(select_blocks(blocks, {layer.name: layer.grid for layer in self.layers if layer.to_text}))
        chosen = [layer for layer in self.layers if (layer.name in names if layer.to_text else self_attention)]
        found = cross_attentions(unet) | self_attentions(unet)
        if missing := [layer.name for layer in chosen if layer.name not in found]:
            raise TraceMismatchError(f"the replay has a block {missing[0]!r}, the pipeline's UNet has not")
        wanted = [
            each for layer in chosen for each in Projected.of(layer.name, found[layer.name], layer.head_indices, layer.to_text)
        ]
        with torch.inference_mode(mode=False), torch.no_grad():
            given = self.given(positions, place_of(unet))
            parts = [
                Contributing.of(unet, layer.name, found[layer.name], layer.head_indices)
                for layer in chosen
                if contributions and layer.to_text
            ]
            kept = evaluated(unet, given, wanted, memory, between, parts)
            trace = self._trace(chosen, found, kept, None if len(positions) == len(self.evaluations) else positions)
            trace = replace(trace, family=family_of(unet).name)
            return replace(trace, features=self._features(unet, features, memory, between)) if features else trace

    def to_bytes(self) -> bytes:
        """Write one safetensors file, with a checksum for every tensor."""
        header = {
            "format": FORMAT,
            "layers": [vars(layer) for layer in self.layers],
            "binding": dict(self.binding),
            "evaluations": self.evaluations,
            "image_size": self.image_size,
            "half": self.half,
            "clip_skip": self.clip_skip,
            "channels_last": self.channels_last,
        } | {name: value for name, value in (("prompt", self.prompt), ("latents", self.latents)) if value is not None}
        return sealed("replay", header, self._tensors())

    @classmethod
    def from_bytes(cls, data: bytes) -> "Replay":
        """Read what `to_bytes` wrote, on the CPU. Raises `TraceFormatError`, which names a damaged tensor."""
        header, tensors = parse(data, "replay")
        if header.get("format") not in FORMATS:
            raise TraceFormatError(f"the replay's format is {header.get('format')!r}; allowed: {', '.join(FORMATS)}")
        try:
            replay = cls(
                samples=tensors.pop("sample"),
                timesteps=tensors.pop("timestep"),
                witnesses=tensors.pop("witness"),
                conditions=tensors,
                layers=tuple(_layer(entry) for entry in header["layers"]),
                binding={str(name): str(value) for name, value in header["binding"].items()},
                evaluations=tuple(int(index) for index in header["evaluations"]),
                image_size=size_of(header["image_size"]),
                half=header["half"],
                clip_skip=None if header["clip_skip"] is None else int(header["clip_skip"]),
                channels_last=bool(header["channels_last"]),
                prompt=header.get("prompt"),
                latents=size_of(header["latents"]) if "latents" in header else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TraceFormatError(f"the replay's header lacks or garbles a field: {error!r}") from error
        replay._require_whole()
        return replay

    def _tensors(self) -> dict[str, Tensor]:
        own = {"sample": self.samples, "timestep": self.timesteps, "witness": self.witnesses}
        return own | dict(self.conditions)

    def _require_whole(self) -> None:
        """Raise `TraceFormatError` unless the tensors agree with each other."""
        count = len(self.evaluations)
        rows = {name: tensor.shape[0] if tensor.ndim else 0 for name, tensor in self._tensors().items()}
        wrong = [name for name, found in rows.items() if found != count and (found != 1 or name not in self.conditions)]
        if not count or wrong or self.samples.ndim not in (3, 4) or self.witnesses.ndim != 3 or self.half not in get_args(Half):
            raise TraceFormatError(f"the replay's tensors have {rows} rows for {count} evaluations of half {self.half!r}")

    def _joint(self, unet: nn.Module, blocks: Blocks, memory: int, between: Callable[[], None]) -> Trace:
        """Return the trace of a model whose attention is computed when it is asked for, with self-attention and all."""
        names = select_blocks(blocks, {layer.name: layer.grid for layer in self.layers})
        kept = replace(self, layers=tuple(layer for layer in self.layers if layer.name in names))
        joint = Joint(kept, unet, memory, between)
        family, blank = family_of(unet), self._trace([], {}, {}, None)
        return replace(blank, joint=joint, self_attention=(PixelAttention(joint),), prompt=self.prompt, family=family.name)

    def given(self, positions: tuple[int, ...], place: torch.device, *, of_other: bool = False) -> Evaluated:
        """Return the inputs of some evaluations on a device, those of the kept half or of the other one."""
        at = torch.tensor(positions)

        def some(tensor: Tensor) -> Tensor:
            return (tensor if len(tensor) == 1 < len(self.samples) else tensor[at.to(tensor.device)]).to(place)

        named = {
            name.removeprefix(OTHER): tensor for name, tensor in self.conditions.items() if name.startswith(OTHER) == of_other
        }
        conditions = {name: some(tensor) for name, tensor in named.items()}
        layout = torch.channels_last if self.channels_last and self.samples.ndim == 4 else torch.contiguous_format
        samples = some(self.samples).contiguous(memory_format=layout)
        return Evaluated(samples, some(self.timesteps), conditions, some(self.witnesses))

    def _features(
        self,
        unet: Any,  # noqa: ANN401 - a UNet
        choice: FeatureChoice,
        memory: int,
        between: Callable[[], None],
    ) -> Features:
        """Evaluate both halves of guidance side by side, as the generation did, and return what the UNet's blocks give out."""
        if not any(name.startswith(OTHER) for name in self.conditions):
            raise FeaturesNotKeptError(
                "the replay has one half of guidance alone, features are of both: the image was generated without guidance, "
                "or by a version of this library that did not keep the other half"
            )
        positions = select_positions(choice.evaluations, len(self.evaluations), "features' evaluations")
        wanted = [GivenOut(name, module) for name, module in feature_blocks(unet).items()]
        kept = self.given(positions, place_of(unet))
        count = len(positions)
        other = self.given(positions, place_of(unet), of_other=True).conditions
        first, last = (other, kept.conditions) if self.half == "conditional" else (kept.conditions, other)
        conditions = {name: torch.cat([_expanded(each[name], count) for each in (first, last)]) for name in first}
        unknown = torch.full_like(kept.witnesses, torch.nan)
        witnesses = [unknown, kept.witnesses] if self.half == "conditional" else [kept.witnesses, unknown]
        both = Evaluated(kept.samples.repeat(2, 1, 1, 1), kept.timesteps.repeat(2), conditions, torch.cat(witnesses))
        maps = evaluated(unet, both, wanted, memory, between)
        found = {
            each.name: Feature(each.name, maps[each].unflatten(0, (2, count)).transpose(0, 1).contiguous()) for each in wanted
        }
        evaluations = tuple(self.evaluations[each] for each in positions)
        return Features(chosen_features(choice.blocks, found), evaluations, last["encoder_hidden_states"][0])

    def _trace(
        self,
        layers: list[Layer],
        found: Mapping[str, Any],
        kept: Mapping[Projected | Contributing, Tensor],
        positions: tuple[int, ...] | None,
    ) -> Trace:
        """Join the queries with the projections of the keys."""
        parts = {(each.name, each.projection): tensor for each, tensor in kept.items() if isinstance(each, Projected)}
        shares = {each.name: Contribution.of(tensor) for each, tensor in kept.items() if isinstance(each, Contributing)}
        blocks, pixels = [], []
        for layer in layers:
            attention, queries = found[layer.name], parts[layer.name, "queries"]
            scale = float(attention.scale)
            if layer.to_text:
                to_k = captured(attention)
                blocks.append(
                    Block(
                        layer.name,
                        layer.grid,
                        scale,
                        queries,
                        to_k,
                        layer.head_indices,
                        fingerprint(to_k),
                        positions,
                        shares.get(layer.name),
                    )
                )
            else:
                keys = parts[layer.name, "keys"]
                pixels.append(SelfAttention(layer.name, layer.grid, scale, queries, keys, is_linear(attention)))
        return Trace(
            blocks=tuple(blocks),
            evaluations=self.evaluations,
            timesteps=self.moments,
            latent_size=self.latents or (self.samples.shape[2], self.samples.shape[-1]),
            image_size=self.image_size,
            half=self.half,
            self_attention=tuple(pixels),
            clip_skip=self.clip_skip,
        )


def _expanded(tensor: Tensor, count: int) -> Tensor:
    """Return an input with a row for each evaluation."""
    return tensor.expand(count, *tensor.shape[1:])


def _layer(entry: Mapping[str, Any]) -> Layer:
    chosen = entry["head_indices"]
    indices = None if chosen is None else tuple(int(head) for head in chosen)
    return Layer(str(entry["name"]), size_of(entry["grid"]), bool(entry["to_text"]), int(entry["heads"]), indices)


READERS["replay"] = lambda data, pipeline: Replay.from_bytes(data).trace(pipeline)
