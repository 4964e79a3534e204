"""Grounded Diffusion's grounding module (Li et al., Open-vocabulary Object Segmentation with Diffusion Models, ICCV 2023)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import unfold

from ovam.trained.layers import MLP, Fusion, Levels, resized
from ovam.trained.pyramid import Level


@dataclass(frozen=True)
class GroundedDiffusionSizes:
    """How large the module is; the defaults suit the bundled model."""

    channels: tuple[int, ...]
    """Of the features, both halves together, grid by grid, the coarsest first."""
    text_width: int
    widths: tuple[int, ...] = (16, 32, 64)
    """Channels to which each grid's features are reduced; published (16, 32, 64, 128)."""
    patch: int = 2
    """Side of the patches of the fused features that a query attends to; published 4."""
    embedding: int = 128
    """Width of the transformer; published 512."""
    heads: int = 4
    layers: int = 3
    feed_forward: int = 512


class GroundedDiffusion(nn.Module):
    """A class's row becomes a query, which attends to patches of the fused features and then weighs these features.

    >>> sizes = GroundedDiffusionSizes(channels=(8, 6, 4), text_width=32)
    >>> module = GroundedDiffusion(sizes)
    >>> levels = [torch.zeros(1, 8, 4, 4), torch.zeros(1, 6, 8, 8), torch.zeros(1, 4, 16, 16)]
    >>> module(levels, torch.zeros(1, 2, 32), (128, 128)).shape
    torch.Size([1, 2, 128, 128])
    """

    def __init__(self, sizes: GroundedDiffusionSizes) -> None:
        super().__init__()
        self.sizes = sizes
        fused, width = sum(sizes.widths), sizes.embedding
        self.patch = sizes.patch
        self.fusion = Fusion(sizes.channels, sizes.widths)
        self.to_q = nn.Linear(sizes.text_width, width, bias=False)
        self.to_k = nn.Linear(fused * sizes.patch**2, width, bias=False)
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(width, sizes.heads, sizes.feed_forward, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(sizes.layers)
        )
        self.mlp = MLP(width, width, width, fused)

    def forward(
        self, levels: Levels, classes: Float[Tensor, "batch classes text_width"], size: tuple[int, int]
    ) -> Float[Tensor, "batch classes height width"]:
        """Return the logits of every class's mask at an image's `size`."""
        fused = self.fusion(levels)[-1]
        memory = self.to_k(unfold(fused, self.patch, stride=self.patch).transpose(1, 2))
        query = self.to_q(classes)
        for layer in self.layers:
            query = layer(query, memory)
        # published, the features are resized first; the product is linear, so its result may be resized instead
        return resized(torch.einsum("bqc,bchw->bqhw", self.mlp(query), fused), size)

    def probability(
        self, levels: Sequence[Level], row: Float[Tensor, " text_width"], size: tuple[int, int]
    ) -> Float[Tensor, "height width"]:
        """Return how likely each pixel is of a class."""
        return self([level[None] for level in levels], row[None, None], size)[0, 0].sigmoid()

    def fold(self) -> None:
        """Write the spectral norms into the weights."""
        self.fusion.fold()
