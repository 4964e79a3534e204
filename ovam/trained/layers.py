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


class SegBlock(nn.Module):
    """A residual block: normalise, rectify and convolve, twice. Convolutions have a spectral norm of 1.

    Published, it normalises by the statistics of a batch of one, at test too, since it is never put into `eval`: that is an
    instance norm, whatever the batch. Its rectifier works in place, so that the residual is the rectified map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = spectral_norm(nn.Conv2d(channels, channels, 3, padding=1), eps=EPSILON)
        self.conv2 = spectral_norm(nn.Conv2d(channels, channels, 3, padding=1), eps=EPSILON)

    def forward(self, maps: Map) -> Map:
        """Return maps of the same shape."""
        kept = relu(instance_norm(maps, eps=EPSILON))
        return kept + self.conv2(relu(instance_norm(self.conv1(kept), eps=EPSILON)))

    def fold(self) -> None:
        """Write the spectral norm into the weights, which then stay as they are."""
        for convolution in (self.conv1, self.conv2):
            remove_parametrizations(convolution, "weight")


class Fusion(nn.Module):
    """Features of several grids, the coarsest first, brought together from the coarse to the fine.

    Each grid's are resized to the next one's, and reduced by a 1x1 convolution; then they are joined with what came before.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(
            nn.Conv2d(inputs, width, 1, bias=False) for inputs, width in zip(channels, widths, strict=True)
        )
        self.mix = nn.ModuleList(SegBlock(width) for width in [*accumulate(widths)][1:])

    def forward(self, levels: Sequence[Map]) -> list[Map]:
        """Return the joined maps after every grid; the last ones have the channels of all."""
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
            block.fold()


class MLP(nn.Sequential):
    """Linear layers with rectifiers between."""

    def __init__(self, *widths: int) -> None:
        layers = [layer for inputs, outputs in pairwise(widths) for layer in (nn.Linear(inputs, outputs), nn.ReLU())]
        super().__init__(*layers[:-1])


def resized(maps: Map, size: Sequence[int]) -> Map:
    """Resize maps bilinearly to (height, width)."""
    return maps if maps.shape[-2:] == tuple(size) else interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
