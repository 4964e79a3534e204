"""What both networks are made of: their fusion of features of several grids, and a perceptron."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import instance_norm, interpolate, relu
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import remove_parametrizations

EPSILON = 1e-4
Map = Float[Tensor, "batch channels height width"]
Levels = Sequence[Float[Tensor, "_ _ _ _"]]
"""(batch, channels, height, width) of every grid, the coarsest first."""


class SegBlock(nn.Module):
    """A residual block: normalise, rectify and convolve, twice. Convolutions have a spectral norm of 1.

    Where the number of channels changes, a 1x1 convolution brings the residual along.

    Published, it normalises by the statistics of a batch of one, at test too, since it is never put into `eval`: that is an
    instance norm, whatever the batch. Its rectifier works in place, so that the residual is the rectified map.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = spectral_norm(nn.Conv2d(inputs, outputs, 3, padding=1), eps=EPSILON)
        self.conv2 = spectral_norm(nn.Conv2d(outputs, outputs, 3, padding=1), eps=EPSILON)
        self.conv_sc = nn.Identity() if inputs == outputs else spectral_norm(nn.Conv2d(inputs, outputs, 1), eps=EPSILON)

    def forward(self, maps: Map) -> Float[Tensor, "batch outputs height width"]:
        """Return maps of the same size."""
        kept = relu(instance_norm(maps, eps=EPSILON))
        return self.conv_sc(kept) + self.conv2(relu(instance_norm(self.conv1(kept), eps=EPSILON)))

    def fold(self) -> None:
        """Write the spectral norm into the weights, which then stay as they are."""
        for convolution in (self.conv1, self.conv2, self.conv_sc):
            if isinstance(convolution, nn.Conv2d):
                remove_parametrizations(convolution, "weight")


class Fusion(nn.Module):
    """Features of several grids, the coarsest first, brought together from the coarse to the fine.

    Each grid's are resized to the next one's, and reduced by a 1x1 convolution; then they are joined with what came before, and
    keep the channels of both (Grounded Diffusion), or as many as they have alone (DatasetDM).
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int], *, narrow: bool = False) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(
            nn.Conv2d(inputs, width, 1, bias=False) for inputs, width in zip(channels, widths, strict=True)
        )
        wholes = [*accumulate(widths)]
        before = widths if narrow else wholes
        self.mix = nn.ModuleList(
            SegBlock(last + width, width if narrow else last + width) for last, width in zip(before, widths[1:], strict=False)
        )

    def forward(self, levels: Levels) -> Levels:
        """Return the joined maps after every grid."""
        sizes = [level.shape[-2:] for level in [*levels[1:], levels[-1]]]
        # a 1x1 convolution and a bilinear resizing may change places: the small map is convolved
        reduced = [resized(conv(level), size) for conv, level, size in zip(self.reduce, levels, sizes, strict=True)]
        joined = [reduced[0]]
        for mix, maps in zip(self.mix, reduced[1:], strict=True):
            joined.append(mix(torch.cat([resized(joined[-1], maps.shape[-2:]), maps], dim=1)))
        return joined

    def fold(self) -> None:
        """Write the spectral norms into the weights."""
        for block in self.mix:
            if isinstance(block, SegBlock):
                block.fold()


class MLP(nn.Sequential):
    """Linear layers with rectifiers between."""

    def __init__(self, *widths: int) -> None:
        layers = [layer for inputs, outputs in pairwise(widths) for layer in (nn.Linear(inputs, outputs), nn.ReLU())]
        super().__init__(*layers[:-1])


def resized(maps: Map, size: Sequence[int]) -> Float[Tensor, "batch channels new_height new_width"]:
    """Resize maps bilinearly to (height, width)."""
    return maps if maps.shape[-2:] == tuple(size) else interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
