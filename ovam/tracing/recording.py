"""What is recorded of one call of a pipeline, and how it becomes traces."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ovam.core.selection import Blocks, select_blocks
from ovam.errors import CaptureError
from ovam.tracing.blocks import Block, SelfAttention
from ovam.tracing.contributions import Contribution
from ovam.tracing.families import family_of
from ovam.tracing.features import Feature, Features, chosen_features
from ovam.tracing.given import Given
from ovam.tracing.keys import captured, differ, fingerprint, key_projection
from ovam.tracing.model import Projection, is_linear, plain_unet
from ovam.tracing.prediction import Prediction
from ovam.tracing.replay import Layer, Replay
from ovam.tracing.trace import Half, Trace


@dataclass(frozen=True, eq=False)
class Wanted:
    """One projection of one attention, whose output is wanted."""

    name: str
    attention: Any
    projection: Projection
    heads: tuple[int, ...]

    @property
    def to_text(self) -> bool:
        """Whether the attention is to the text, not to the pixels themselves."""
        return bool(self.attention.is_cross_attention)

    @property
    def all_heads(self) -> bool:
        """Whether no head is left out."""
        return len(self.heads) == self.attention.heads

    def split(self, rows: Float[Tensor, "pixels channels"]) -> Float[Tensor, "heads pixels head_dim"]:
        """Split the channels of the kept heads."""
        return rows.unflatten(-1, (len(self.heads), -1)).transpose(0, 1)


@dataclass(eq=False)
class Call:
    """What one call of the pipeline has left so far."""

    caller: Any  # the pipeline
    thread: int
    schedule: Tensor  # the scheduler's timesteps: every call of a pipeline sets new ones
    expected: int
    evaluations: tuple[int, ...]
    latent_size: tuple[int, int]
    images: int
    kept: dict[Wanted, list[Float[Tensor, "images pixels channels"]]]
    clip_skip: int | None
    feature_evaluations: tuple[int, ...] = ()
    given: Given | None = None  # what the UNet was given, where a replay is kept instead of queries
    predicted: Prediction | None = None  # by the latest evaluation
    rows: slice | None = None  # which rows of the batch the running evaluation leaves; None: it is not kept
    seen: Counter[Wanted] = field(default_factory=Counter)
    grids: dict[str, tuple[int, int]] = field(default_factory=dict)
    timesteps: list[Any] = field(default_factory=list)
    fingerprints: dict[str, Tensor] = field(default_factory=dict)
    keys: dict[str, nn.Module] = field(default_factory=dict)
    joint: tuple[Layer, ...] = ()  # blocks in which pixels and text attend together
    prompts: tuple[str | None, ...] = ()
    halves: tuple[slice, ...] = ()  # rows of the running evaluation whose features are kept; none: they are not
    features: dict[str, list[Float[Tensor, "images halves channels height width"]]] = field(default_factory=dict)
    contributions: dict[str, list[Float[Tensor, "images heads_and_layer"]]] = field(default_factory=dict)
    texts: Tensor | None = None  # the embeddings of the images' own prompts
    started: int = 0
    finished: int = 0

    @property
    def complete(self) -> bool:
        """Whether all evaluations of the call were recorded."""
        return self.finished >= self.expected

    def require_halves(self) -> None:
        """Raise `CaptureError` when guidance ended on the way, or began, while features are kept, which are of all its halves."""
        before = next((maps[-1].shape[1] for maps in self.features.values()), len(self.halves))
        if before != len(self.halves):
            raise CaptureError(
                f"features are kept of {before} halves of guidance, and evaluation {self.started} has {len(self.halves)}; "
                "allowed: evaluations before guidance changes, or after"
            )

    def settle(self, blocks: Blocks) -> None:
        """Drop the blocks that are not of a selected resolution, and the smaller self-attentions."""
        if self.joint:
            return
        names = set(select_blocks(blocks, {each.name: self.grids[each.name] for each in self.kept if each.to_text}))
        pixels = {each.name: self.grids[each.name] for each in self.kept if not each.to_text}
        largest = max(pixels.values(), key=prod, default=None)
        names |= {name for name, grid in pixels.items() if grid == largest}
        self.kept = {each: rows for each, rows in self.kept.items() if each.name in names}
        self.fingerprints = {each.name: fingerprint(key_projection(each.attention)) for each in self.kept if each.to_text}

    def bind_keys(self) -> None:
        """Keep the key projections as they are now. Raises `CaptureError` if they changed since the first evaluation."""
        for each in self.kept:
            if each.to_text:
                self.keys[each.name] = captured(each.attention)
                if differ(fingerprint(self.keys[each.name]), self.fingerprints[each.name]):
                    raise CaptureError(f"the adapters, or the weights, of {each.name} changed during the generation")

    def traces(self, half: Half, *, features: Blocks = "all", release: bool = True) -> Iterator[Trace]:
        """Split what the call has left so far into one trace per image, and unless it goes on, `release` it."""
        if self.joint:
            yield from (replay.trace(self.caller) for replay in self.replays(half))
            return
        parts = [(each, self._images_of(each, release=release)) for each in list(self.kept)]
        keys = {each.name: images for each, images in parts if each.projection == "keys"}
        for image in range(self.images):
            blocks, pixels = [], []
            for each, images in parts:
                grid, scale = self.grids[each.name], float(each.attention.scale)
                if each.to_text:
                    heads = None if each.all_heads else each.heads
                    to_k, known = self.keys.get(each.name) or captured(each.attention), self.fingerprints[each.name]
                    part = self._contribution_of(image, each.name)
                    blocks.append(Block(each.name, grid, scale, images[image], to_k, heads, known, contribution=part))
                elif each.projection == "queries":
                    linear = is_linear(each.attention)
                    pixels.append(SelfAttention(each.name, grid, scale, images[image], keys[each.name][image], linear))
            yield Trace(
                blocks=tuple(blocks),
                evaluations=self.evaluations[: len(self.timesteps)],
                timesteps=tuple(float(torch.as_tensor(step).reshape(-1)[0]) for step in self.timesteps),
                latent_size=self.latent_size,
                image_size=self.image_size,
                half=half,
                self_attention=tuple(pixels),
                clip_skip=self.clip_skip,
                family=family_of(plain_unet(self.caller)).name,
                features=self._features_of(image, features),
            )

    def _contribution_of(self, image: int, name: str) -> Contribution | None:
        """Return how much a block contributed to an image, outside of inference mode; `None` if it was not kept."""
        if name not in self.contributions:
            return None
        with torch.inference_mode(mode=False):
            return Contribution.of(torch.stack([rows[image] for rows in self.contributions[name]]))

    def _features_of(self, image: int, selection: Blocks) -> Features | None:
        """Return what the UNet's blocks gave out for an image, outside of inference mode; `None` if it was not kept."""
        if self.texts is None or not self.features:
            return None
        with torch.inference_mode(mode=False):
            found = {name: Feature(name, torch.stack([each[image] for each in maps])) for name, maps in self.features.items()}
            chosen = chosen_features(selection, found)
            return Features(chosen, self.feature_evaluations[: len(chosen[0].maps)], self.texts[image].clone())

    def replays(self, half: Half) -> Iterator[Replay]:
        """Split what the UNet was given into one replay per image."""
        if self.given is None:
            return
        layers = {
            each.name: Layer(
                each.name, self.grids[each.name], each.to_text, len(each.heads), None if each.all_heads else each.heads
            )
            for each in self.kept
        }
        for image in range(self.images):
            samples, timesteps, conditions, witnesses = self.given.image(image)
            done = len(witnesses)  # of an evaluation under way there is no witness yet
            yield Replay(
                samples=samples[:done],
                timesteps=timesteps[:done],
                conditions={name: tensor[: max(done, 1)] for name, tensor in conditions.items()},
                witnesses=witnesses,
                layers=(*layers.values(), *self.joint),
                binding=self.given.binding,
                evaluations=self.evaluations[:done],
                image_size=self.image_size,
                half=half,
                clip_skip=self.clip_skip,
                channels_last=self.given.channels_last,
                prompt=self.prompts[image] if self.prompts else None,
                latents=self.latent_size if samples.ndim == 3 else None,
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the images."""
        pixels_per_latent = self.caller.vae_scale_factor
        return self.latent_size[0] * pixels_per_latent, self.latent_size[1] * pixels_per_latent

    def _images_of(self, wanted: Wanted, *, release: bool) -> list[Float[Tensor, "evaluations heads pixels head_dim"]]:
        """Return what was kept, image by image, outside of inference mode, so that an optimisation can use it."""
        kept = self.kept.pop(wanted) if release else self.kept[wanted]
        with torch.inference_mode(mode=False):
            return [torch.stack([wanted.split(rows[image]) for rows in kept]) for image in range(self.images)]


def grid_of(pixels: int, latent_size: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) of a block by its number of pixels: the latent's, halved and rounded up as often as it takes.

    Raises `CaptureError` when no number of halvings fits.
    """
    height, width = latent_size
    while height * width > max(pixels, 1):
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != pixels:
        raise CaptureError(f"a block has {pixels} pixels, which no halving of the latent {latent_size} gives")
    return height, width
