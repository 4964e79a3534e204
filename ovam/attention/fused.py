"""Kernels for a GPU: scores, softmax and sums in one pass over the queries, which are read from its memory once.

Queries and keys are fp16 or bf16; products accumulate, and everything else is computed, in fp32. Each program takes some
pixels and some of the pairs of evaluation and head, so that small blocks fill a large GPU, too; their sums are added afterwards,
in a fixed order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

MOST_TOKENS = 128
"""Of one text: its scores with some pixels are held in registers."""
_PROGRAMS = 1024  # some for each of about a hundred multiprocessors
_SCORES = 8192  # of one program, at a time
_SHARED = 96 << 10  # bytes that every GPU since 2020 has for a program's queries and keys
_PIXELS = 64  # of a program that sums sigmoids
_TYPES = (torch.float16, torch.bfloat16)


def fits(queries: Float[Tensor, "evaluations heads pixels head_dim"], tokens: int) -> bool:
    """Whether the kernels take queries of this type and length, and texts of so many tokens."""
    return queries.dtype in _TYPES and tokens <= MOST_TOKENS and sizes_of(queries, tokens).bytes <= _SHARED


@dataclass(frozen=True)
class Sizes:
    """What the kernel for sums of softmaxes is compiled for."""

    dim: int
    wide: int
    """Of a query, filled up to a power of two."""
    tokens: int
    """Of a text, the same."""
    tile: int
    """Pixels of a program."""
    bytes: int
    """Of a program's queries and keys, once."""

    @property
    def stages(self) -> int:
        """How many pairs of evaluation and head are loaded ahead."""
        return max(1, min(3, _SHARED // self.bytes))

    @property
    def warps(self) -> int:
        """Of a program: as many as it takes to hold the scores in registers."""
        return 8 if self.tile * self.tokens >= _SCORES else 4


def sizes_of(queries: Float[Tensor, "evaluations heads pixels head_dim"], tokens: int) -> Sizes:
    """Choose what to compile for texts of at most so many tokens."""
    dim, many = queries.shape[3], max(16, triton.next_power_of_2(tokens))
    wide, tile = max(16, triton.next_power_of_2(dim)), max(16, min(128, _SCORES // many))
    return Sizes(dim, wide, many, tile, (tile + many) * wide * queries.element_size())


def attention_sums(
    queries: Float[Tensor, "evaluations heads pixels head_dim"],
    keys: Float[Tensor, "heads rows head_dim"],
    lengths: Sequence[int],
) -> Float[Tensor, "rows pixels"]:
    """Sum over evaluations and heads the softmax over each text's tokens; the texts' keys lie one after the other, scaled."""
    evaluations, heads, pixels, _ = queries.shape
    queries, keys = queries.contiguous(), keys.to(queries.dtype).contiguous()
    sizes = sizes_of(queries, max(lengths))
    tiles = triton.cdiv(pixels, sizes.tile)
    parts = _parts(tiles * len(lengths), evaluations * heads)
    ends = torch.tensor(lengths, device=queries.device).cumsum(0)
    total = torch.empty(parts, keys.shape[1], pixels, dtype=torch.float32, device=queries.device)
    _attention_sums[len(lengths), tiles, parts](
        queries, keys, ends, total, evaluations * heads, heads, pixels, keys.shape[1],
        dim=sizes.dim, wide=sizes.wide, tokens=sizes.tokens, tile=sizes.tile,
        num_stages=sizes.stages, num_warps=sizes.warps,
    )  # fmt: skip
    return total.sum(dim=0)


def sigmoid_sum(
    queries: Float[Tensor, "evaluations heads pixels head_dim"], difference: Float[Tensor, "heads head_dim"]
) -> Float[Tensor, " pixels"]:
    """Sum over evaluations and heads the sigmoid of the products of queries and difference."""
    evaluations, heads, pixels, dim = queries.shape
    tiles = triton.cdiv(pixels, _PIXELS)
    parts = _parts(tiles, evaluations * heads)
    total = torch.empty(parts, pixels, dtype=torch.float32, device=queries.device)
    _sigmoid_sum[tiles, parts](
        queries.contiguous(), difference.float().contiguous(), total, evaluations * heads, heads, pixels,
        dim=dim, wide=triton.next_power_of_2(dim), tile=_PIXELS,
    )  # fmt: skip
    return total.sum(dim=0)


def sigmoid_slope(
    queries: Float[Tensor, "evaluations heads pixels head_dim"],
    difference: Float[Tensor, "heads head_dim"],
    slope: Float[Tensor, " pixels"],
) -> Float[Tensor, "heads head_dim"]:
    """Compute the gradient of `sigmoid_sum` with respect to `difference`, for the gradient `slope` of its result."""
    evaluations, heads, pixels, dim = queries.shape
    tiles = triton.cdiv(pixels, _PIXELS)
    parts = _parts(heads, evaluations * tiles)
    total = torch.empty(parts, heads, dim, dtype=torch.float32, device=queries.device)
    _sigmoid_slope[heads, parts](
        queries.contiguous(), difference.float().contiguous(), slope.float().contiguous(), total,
        evaluations * tiles, tiles, heads, pixels,
        dim=dim, wide=triton.next_power_of_2(dim), tile=_PIXELS,
    )  # fmt: skip
    return total.sum(dim=0)


def _parts(programs: int, most: int) -> int:
    """Return into how many parts to split a sum."""
    return max(1, min(most, _PROGRAMS // programs))


@triton.jit
def _attention_sums(
    queries, keys, ends, total, pairs, heads, pixels, rows,
    dim: tl.constexpr, wide: tl.constexpr, tokens: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    """One text (fastest, so that programs of the same queries run together), some pixels, some pairs of evaluation and head."""
    text, part, parts = tl.program_id(0), tl.program_id(2), tl.num_programs(2)
    pixel = tl.program_id(1) * tile + tl.arange(0, tile)
    channel = tl.arange(0, wide)
    end = tl.load(ends + text)
    start = tl.load(ends + text - 1, mask=text > 0, other=0)
    row = start + tl.arange(0, tokens)
    inside = (pixel < pixels)[:, None] & (channel < dim)[None, :]
    known = (row < end)[:, None] & (channel < dim)[None, :]
    size = tl.cast(pixels, tl.int64) * dim  # of a pair's queries
    summed = tl.zeros((tile, tokens), dtype=tl.float32)
    for pair in range(part * pairs // parts, (part + 1) * pairs // parts):
        query = tl.load(queries + pair * size + pixel[:, None] * dim + channel[None, :], mask=inside, other=0.0)
        key = tl.load(keys + ((pair % heads) * rows + row)[:, None] * dim + channel[None, :], mask=known, other=0.0)
        scores = tl.dot(query, tl.trans(key))
        scores = tl.where((row < end)[None, :], scores, float("-inf"))
        powers = tl.exp(scores - tl.max(scores, axis=1)[:, None])
        summed += powers / tl.sum(powers, axis=1)[:, None]
    into = total + tl.cast(part * rows + row, tl.int64)[None, :] * pixels + pixel[:, None]
    tl.store(into, summed, mask=(pixel < pixels)[:, None] & (row < end)[None, :])


@triton.jit
def _sigmoid_sum(
    queries, difference, total, pairs, heads, pixels, dim: tl.constexpr, wide: tl.constexpr, tile: tl.constexpr
):  # fmt: skip
    """Some pixels, some pairs of evaluation and head."""
    part, parts = tl.program_id(1), tl.num_programs(1)
    pixel = tl.program_id(0) * tile + tl.arange(0, tile)
    channel = tl.arange(0, wide)
    inside = (pixel < pixels)[:, None] & (channel < dim)[None, :]
    size = tl.cast(pixels, tl.int64) * dim
    summed = tl.zeros((tile,), dtype=tl.float32)
    for pair in range(part * pairs // parts, (part + 1) * pairs // parts):
        query = tl.load(queries + pair * size + pixel[:, None] * dim + channel[None, :], mask=inside, other=0.0)
        row = tl.load(difference + (pair % heads) * dim + channel, mask=channel < dim, other=0.0)
        summed += tl.sigmoid(tl.sum(query.to(tl.float32) * row[None, :], axis=1))
    tl.store(total + part * pixels + pixel, summed, mask=pixel < pixels)


@triton.jit
def _sigmoid_slope(
    queries, difference, slope, total, pairs, tiles, heads, pixels, dim: tl.constexpr, wide: tl.constexpr, tile: tl.constexpr
):  # fmt: skip
    """One head, some pairs of evaluation and tile of pixels."""
    head, part, parts = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    channel = tl.arange(0, wide)
    row = tl.load(difference + head * dim + channel, mask=channel < dim, other=0.0)
    size = tl.cast(pixels, tl.int64) * dim
    summed = tl.zeros((wide,), dtype=tl.float32)
    for pair in range(part * pairs // parts, (part + 1) * pairs // parts):
        pixel = (pair % tiles) * tile + tl.arange(0, tile)
        inside = (pixel < pixels)[:, None] & (channel < dim)[None, :]
        at = queries + ((pair // tiles) * heads + head) * size + pixel[:, None] * dim + channel[None, :]
        query = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        odds = tl.sigmoid(tl.sum(query * row[None, :], axis=1))
        weight = tl.load(slope + pixel, mask=pixel < pixels, other=0.0) * odds * (1 - odds)
        summed += tl.sum(query * weight[:, None], axis=0)
    tl.store(total + (part * heads + head) * dim + channel, summed, mask=channel < dim)
