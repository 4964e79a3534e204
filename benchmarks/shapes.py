"""Traces with the shapes of known models and random values, so that speed can be measured without their weights."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ovam.tracing.blocks import Block, SelfAttention

if TYPE_CHECKING:
    from ovam.tracing.trace import Trace

RADIUS = 0.5  # of the disc, where an image's half width is 1


@dataclass(frozen=True)
class Shapes:
    """The cross-attention blocks of a model at one image size."""

    name: str
    grids: tuple[tuple[int, int, int, int], ...]
    """Of equal blocks: side in pixels, heads, length of a head's queries, how many blocks."""
    width: int
    """Of a text embedding."""
    image: int
    """Side of the image in pixels."""

    def values(self) -> int:
        """Numbers of one evaluation's queries."""
        return sum(side * side * heads * length * count for side, heads, length, count in self.grids)

    def scores(self) -> int:
        """Scores of one evaluation with one token."""
        return sum(side * side * heads * count for side, heads, _, count in self.grids)


BUNDLED = Shapes("bundled", ((16, 3, 32, 3), (8, 5, 32, 3)), 192, 128)
SD15 = Shapes("SD 1.5", ((64, 8, 40, 5), (32, 8, 80, 5), (16, 8, 160, 5)), 768, 512)
SDXL = Shapes("SDXL", ((64, 10, 64, 10), (32, 20, 64, 60)), 2048, 1024)


def random_layer(shapes: Shapes, evaluations: int, device: torch.device | str = "cpu") -> SelfAttention:
    """Return a self-attention on the largest grid with random queries and keys."""
    torch.manual_seed(0)
    side, heads, length, _ = shapes.grids[0]
    queries, keys = torch.randn(2, evaluations, heads, side * side, length, device=device)
    return SelfAttention("random", (side, side), 3 * length**-0.5, queries, keys)


def random_blocks(
    shapes: Shapes, evaluations: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[Block, ...]:
    """Return blocks with random queries and keys; scores are as wide as trained models' are."""
    torch.manual_seed(0)
    blocks: list[Block] = []
    for side, heads, length, count in shapes.grids:
        for _ in range(count):
            to_k = nn.Linear(shapes.width, heads * length, bias=False, device=device, dtype=dtype)
            queries = torch.randn(evaluations, heads, side * side, length, device=device, dtype=dtype)
            to_k.requires_grad_(requires_grad=False)
            blocks.append(Block(f"{side}.{len(blocks)}", (side, side), 3 * length**-0.5, queries, to_k))
    return tuple(blocks)


def random_trace(
    shapes: Shapes, evaluations: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> "Trace":
    """Return a trace of `random_blocks`."""
    from ovam.tracing.trace import Trace  # noqa: PLC0415 - needs diffusers, which measuring kernels does not

    steps, grid, size = tuple(range(evaluations)), (shapes.grids[0][0],) * 2, (shapes.image,) * 2
    blocks = random_blocks(shapes, evaluations, dtype, device)
    return Trace(blocks, steps, (*map(float, steps),), grid, size, "conditional")


def random_rows(shapes: Shapes, tokens: int, seed: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """Return a random text embedding whose first row, the start token's, is the same for every seed."""
    rows = torch.randn(tokens, shapes.width, generator=torch.Generator().manual_seed(seed))
    rows[0] = torch.randn(shapes.width, generator=torch.Generator().manual_seed(-1))
    return rows.to(device)


def disc(shapes: Shapes, device: torch.device | str = "cpu") -> Tensor:
    """Return the mask of a disc over half the image's width: (height, width), bool."""
    along = torch.linspace(-1, 1, shapes.image, device=device)
    return along[:, None].square() + along.square() < RADIUS**2
