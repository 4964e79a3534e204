"""Attention computed the long way round, to compare with: explicit probabilities, map by map, no tricks.

What is called slow is plain loops in double precision and shares nothing with the library.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from torch.nn.functional import interpolate

Recorded = dict[str, list[Tensor]]


class ExplicitAttention:
    """An attention processor that computes the probabilities in full and keeps those of cross-attentions."""

    def __init__(self, name: str, recorded: Recorded) -> None:
        self.name = name
        self.recorded = recorded

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):  # noqa: ANN001, ANN204, ANN003
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(context))
        value = attn.head_to_batch_dim(attn.to_v(context))
        probabilities = attn.get_attention_scores(query, key, attention_mask)
        if encoder_hidden_states is not None:
            split = probabilities.unflatten(0, (hidden_states.shape[0], attn.heads))
            self.recorded.setdefault(self.name, []).append(split)
        return attn.to_out[0](attn.batch_to_head_dim(probabilities @ value))


def record_attention(pipeline: StableDiffusionPipeline) -> Recorded:
    """Make a pipeline record (batch, heads, pixels, tokens) of every cross-attention at every evaluation."""
    recorded: Recorded = {}
    pipeline.unet.set_attn_processor(
        {name: ExplicitAttention(name.removesuffix(".processor"), recorded) for name in pipeline.unet.attn_processors}
    )
    return recorded


def aggregate(recorded: Recorded, row: int, grids: dict[str, tuple[int, int]]) -> Tensor:
    """Resize every single map to the largest grid and add them up: (tokens, height, width), in double precision."""
    size = max(grids.values())
    total = torch.zeros(1, dtype=torch.float64)
    for name, grid in grids.items():
        for probabilities in recorded[name]:
            for head in probabilities[row].double():
                maps = head.T.unflatten(-1, grid)[None]
                total = total + interpolate(maps, size=size, mode="bilinear", align_corners=False)[0]
    return total


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def softmax_of(values: list[float]) -> list[float]:
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]


def resized(grid: list[list[float]], size: tuple[int, int]) -> list[list[float]]:
    """Bilinear, pixel centres at halves, edges repeated."""

    def weights(length: int, wanted: int) -> list[tuple[int, int, float]]:
        found = []
        for index in range(wanted):
            place = max(0.0, (index + 0.5) * length / wanted - 0.5)
            low = min(int(place), length - 1)
            found.append((low, min(low + 1, length - 1), place - low))
        return found

    answer = []
    for top, bottom, down in weights(len(grid), size[0]):
        row = []
        for left, right, along in weights(len(grid[0]), size[1]):
            upper = grid[top][left] * (1 - along) + grid[top][right] * along
            lower = grid[bottom][left] * (1 - along) + grid[bottom][right] * along
            row.append(upper * (1 - down) + lower * down)
        answer.append(row)
    return answer


def shaped(values: list[float], grid: tuple[int, int]) -> list[list[float]]:
    return [values[row * grid[1] : (row + 1) * grid[1]] for row in range(grid[0])]


def slow_heatmaps(
    blocks: Sequence[tuple[tuple[int, int], float, np.ndarray, np.ndarray]],
    embedding: np.ndarray,
    reduction: str,
    size: tuple[int, int] | None,
) -> np.ndarray:
    """Eq. 3 to 5 for blocks (grid, scale, queries by evaluation and head, key weight by head)."""
    largest = max((block[0] for block in blocks), key=lambda grid: grid[0] * grid[1])
    maps = [[[0.0] * largest[1] for _ in range(largest[0])] for _ in embedding]
    terms = 0
    for grid, scale, queries, weights in blocks:
        for evaluation in queries:
            for query, weight in zip(evaluation, weights, strict=True):
                keys = [[dot(row, channel) for channel in weight] for row in embedding]
                attention = [softmax_of([scale * dot(pixel, key) for key in keys]) for pixel in query]
                terms += 1
                for token, into in enumerate(maps):
                    for row, values in enumerate(resized(shaped([pixel[token] for pixel in attention], grid), largest)):
                        for column, value in enumerate(values):
                            into[row][column] += value
    factor = terms if reduction == "mean" else 1
    scaled = [[[value / factor for value in row] for row in one] for one in maps]
    return np.array(scaled if size is None else [resized(one, size) for one in scaled])


def slow_parts(
    blocks: Sequence[tuple[tuple[int, int], float, np.ndarray, np.ndarray]], embedding: np.ndarray, by: str
) -> tuple[list[int], list[np.ndarray]]:
    """Terms and mean maps of every single block, evaluation or head, on the largest grid of all blocks."""
    largest = max((block[0] for block in blocks), key=lambda grid: grid[0] * grid[1])
    evaluations, heads = len(blocks[0][2]), max(len(block[3]) for block in blocks)
    match by:
        case "block":
            parts = [[block] for block in blocks]
        case "evaluation":
            parts = [[(grid, scale, q[step : step + 1], k) for grid, scale, q, k in blocks] for step in range(evaluations)]
        case _:
            parts = [
                [(grid, scale, q[:, head : head + 1], k[head : head + 1]) for grid, scale, q, k in blocks if head < len(k)]
                for head in range(heads)
            ]
    terms = [sum(len(q) * len(k) for _, _, q, k in part) for part in parts]
    maps = []
    for part, count in zip(parts, terms, strict=True):
        total: Any = 0
        for block in part:
            total = total + slow_heatmaps([block], embedding, "sum", largest)
        maps.append(total / count)
    return terms, maps


def self_attention(layer: Any) -> list[list[list[float]]]:
    """Every evaluation's and head's matrix: rows look, columns are looked at."""
    matrices = []
    for queries, keys in zip(layer.queries.double().tolist(), layer.keys.double().tolist(), strict=True):
        for query, key in zip(queries, keys, strict=True):
            matrices.append([softmax_of([layer.scale * dot(pixel, other) for other in key]) for pixel in query])
    return matrices


def slow_received(layers: Sequence[Any]) -> np.ndarray:
    """Eq. 8: the columns' sums, averaged over everything."""
    largest = max((layer.grid for layer in layers), key=lambda grid: grid[0] * grid[1])
    found = [
        resized(shaped([sum(row[pixel] for row in matrix) for pixel in range(len(matrix))], layer.grid), largest)
        for layer in layers
        for matrix in self_attention(layer)
    ]
    return np.mean(np.array(found), axis=0)


def slow_affinity(heat: np.ndarray, layers: Sequence[Any], steps: int) -> np.ndarray:
    """Multiply by every matrix, average, and again."""
    for _ in range(steps):
        spread = []
        for layer in layers:
            for matrix in self_attention(layer):
                maps = []
                for one in heat.tolist():
                    values = [value for row in resized(one, layer.grid) for value in row]
                    maps.append(resized(shaped([dot(row, values) for row in matrix], layer.grid), heat.shape[1:]))
                spread.append(maps)
        heat = np.mean(np.array(spread), axis=0)
    return heat


def slow_weights(attention: np.ndarray, size: tuple[int, int], alpha: float, sign: int) -> np.ndarray:
    """Eq. 8: resized, turned, stretched to [alpha, 1]."""
    values = [[sign * value for value in row] for row in resized(attention.tolist(), size)]
    low, high = min(map(min, values)), max(map(max, values))
    return np.array([[alpha + (1 - alpha) * (value - low) / (high - low) for value in row] for row in values])


def slow_bce(maps: np.ndarray, target: np.ndarray, counted: np.ndarray) -> float:
    """Eq. 7, over the pixels that count."""
    total = 0.0
    for row, column in np.argwhere(counted):
        for heat, wanted in zip(maps[:, row, column].tolist(), target[:, row, column].tolist(), strict=True):
            total -= wanted * math.log(heat) + (1 - wanted) * math.log(1 - heat)
    return total / int(counted.sum())


def slow_cross_entropy(maps: np.ndarray, target: np.ndarray, counted: np.ndarray) -> float:
    """The published code's loss: stretched all together, a soft cross-entropy of their softmax."""
    low, high = float(maps.min()), float(maps.max())
    total = 0.0
    for row, column in np.argwhere(counted):
        parts = softmax_of([(value - low) / (high - low) for value in maps[:, row, column].tolist()])
        total -= sum(wanted * math.log(part) for wanted, part in zip(target[:, row, column], parts, strict=True))
    return total / int(counted.sum())


def slow_otsu(values: list[float]) -> float:
    """The least value of the upper group where the groups' means and sizes are furthest apart."""
    best, level = 0.0, math.inf
    for cut in sorted(set(values))[1:]:
        low, high = [v for v in values if v < cut], [v for v in values if v >= cut]
        between = len(low) * len(high) * (sum(high) / len(high) - sum(low) / len(low)) ** 2
        if between > best * (1 + 1e-12):
            best, level = between, cut
    return level


def slow_refined(heat: np.ndarray, method: Any, layers: Sequence[Any], size: tuple[int, int]) -> np.ndarray:
    """What is cut: spread, resized, stretched, weighted."""
    refine, threshold = method.refine, method.threshold
    if refine.kind in ("affinity", "both"):
        heat = slow_affinity(heat[None], layers, refine.steps)[0]
    found = np.array(resized(heat.tolist(), size))
    if threshold.kind == "share" and threshold.normalize == "minmax":
        found = (found - found.min()) / (found.max() - found.min())
    if refine.kind in ("attention", "both"):
        found = found * slow_weights(slow_received(layers), size, refine.alpha, refine.sign)
    return found


def slow_level(heat: np.ndarray, method: Any) -> float:
    """The least heat that is inside."""
    match method.threshold.kind:
        case "share":
            return method.threshold.tau * float(heat.max())
        case "absolute":
            return method.threshold.level
        case _:
            return slow_otsu(heat.flatten().tolist())


def slow_labels(heats: Sequence[np.ndarray], methods: Sequence[Any], least_gap: float) -> np.ndarray:
    """Pixel by pixel: who is ahead of its own threshold by most, in fractions of its own maximum."""
    levels = [slow_level(heat, method) for heat, method in zip(heats, methods, strict=True)]
    labels = np.zeros(heats[0].shape, dtype=np.uint8)
    for place in np.ndindex(labels.shape):
        margins = [(float(heat[place]) - level) / float(heat.max()) for heat, level in zip(heats, levels, strict=True)]
        order = sorted([*margins, 0.0], reverse=True)
        if least_gap > 0 and order[0] - order[1] < least_gap:
            labels[place] = 255
        elif max(margins) >= 0:
            labels[place] = 1 + margins.index(max(margins))
    return labels
