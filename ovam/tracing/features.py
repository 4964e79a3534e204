"""What the blocks of a UNet give out, for networks that are trained on it, and what the image's prompt was."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ovam.core.selection import Blocks, select_blocks
from ovam.errors import FeaturesNotKeptError, UnsupportedModelError

Maps = Float[Tensor, "evaluations halves channels height width"]


@dataclass(frozen=True, eq=False)
class Feature:
    """What one block of the UNet gave out."""

    name: str
    """Path in the UNet, e.g. `down_blocks.0.downsamplers.0`."""
    maps: Maps
    """Halves of guidance: the unconditional one, then the conditional one; without guidance the latter alone."""

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the maps."""
        return self.maps.shape[-2], self.maps.shape[-1]


@dataclass(frozen=True, eq=False)
class Features:
    """What the blocks of a UNet gave out while it made an image."""

    blocks: tuple[Feature, ...]
    evaluations: tuple[int, ...]
    """Of which UNet evaluations, counted from 0 within the image's own generation."""
    prompt: Float[Tensor, "tokens text_width"]
    """The embedding of the image's own prompt, with its padding."""

    @property
    def nbytes(self) -> int:
        """Memory that they take in bytes."""
        return self.prompt.nbytes + sum(block.maps.nbytes for block in self.blocks)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Features":
        """Return features on another device or in another floating type."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device=device, dtype=dtype)

        blocks = tuple(Feature(block.name, move(block.maps)) for block in self.blocks)
        return Features(blocks, self.evaluations, move(self.prompt))

    def at(self, evaluation: int, name: str) -> Float[Tensor, "halves channels height width"]:
        """Return a block's maps at an evaluation. Raises `FeaturesNotKeptError`, which says what is there instead."""
        found = next((block for block in self.blocks if block.name == name), None)
        if found is None:
            kept = ", ".join(block.name for block in self.blocks)
            raise FeaturesNotKeptError(f"the features of block {name!r} were not kept; there are those of {kept}")
        if evaluation not in self.evaluations:
            raise FeaturesNotKeptError(
                f"the features of evaluation {evaluation} were not kept; there are those of {self.evaluations}"
            )
        return found.maps[self.evaluations.index(evaluation)]


def feature_blocks(unet: nn.Module) -> dict[str, nn.Module]:
    """Map the path of every block of a UNet to its module, in the order in which they are computed.

    A block is what the UNet was published as a list of: the first convolution, every residual layer with the attention behind
    it, every change of resolution, and the middle. Raises `UnsupportedModelError` for a transformer, which has no such blocks.
    """
    if not hasattr(unet, "up_blocks"):
        raise UnsupportedModelError(f"{type(unet).__name__} has no features that are kept; allowed: a UNet's")
    return dict(_blocks(unet))


def chosen_features(selection: Blocks, found: dict[str, Feature]) -> tuple[Feature, ...]:
    """Return the selected features. Raises `SelectionError`."""
    names = select_blocks(selection, {name: each.grid for name, each in found.items()}, "features")
    return tuple(found[name] for name in names)


def output_of(output: Tensor | tuple[Tensor, ...]) -> Float[Tensor, "rows channels height width"]:
    """Return what a block gives out, alone or before other things."""
    return output if isinstance(output, Tensor) else output[0]


def _blocks(unet: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the blocks of the way down, of the middle and of the way up."""
    yield "conv_in", unet.get_submodule("conv_in")
    parts = dict(unet.named_children())
    for side in ("down_blocks", "mid_block", "up_blocks"):
        if side == "mid_block":
            if parts.get(side) is not None:
                yield side, parts[side]
            continue
        for number, block in enumerate(parts[side].children()):
            inner = dict(block.named_children())
            attentions = inner.get("attentions")
            for layer in range(len([*inner["resnets"].children()])):
                kind = "resnets" if attentions is None else "attentions"
                yield f"{side}.{number}.{kind}.{layer}", inner[kind].get_submodule(str(layer))
            for kind in ("downsamplers", "upsamplers"):
                if inner.get(kind) is not None:
                    yield f"{side}.{number}.{kind}.0", inner[kind].get_submodule("0")
