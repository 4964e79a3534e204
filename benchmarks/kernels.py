"""The kernels alone, on a GPU: heatmaps and learning on random queries, beside the plain reference. Needs torch and jaxtyping."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, interpolate

from benchmarks import plain
from benchmarks.result import Result, Setup, median
from benchmarks.shapes import SD15, Shapes, disc, random_blocks, random_rows
from benchmarks.timing import in_turn, seconds
from ovam.attention.sums import attention_sum, text_sums
from ovam.learning.ahead import recorded
from ovam.tracing.blocks import Block

EVALUATIONS, LEARNED_EVALUATIONS, EPOCHS = 51, 31, 500
TOKENS, TEXTS = (8, 20, 77), (1, 20)
MILLISECONDS = {(77, 1): 0.6}
FASTER = 15.0

Sums = Callable[[Tensor, Tensor], Tensor]


def added(blocks: Sequence[Block], rows: Tensor, sums: Sums) -> Tensor:
    """Add up what `sums` makes of each block, on the largest grid."""
    by_grid: dict[tuple[int, int], Tensor] = {}
    for block in blocks:
        maps = sums(block.queries, block.keys(rows) * block.scale).unflatten(-1, block.grid)
        by_grid[block.grid] = by_grid[block.grid] + maps if block.grid in by_grid else maps
    size = max(by_grid, key=lambda grid: grid[0])
    return sum(interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0] for maps in by_grid.values())


def kernels(setup: Setup, shapes: Shapes = SD15, evaluations: int = EVALUATIONS) -> Iterator[Result]:
    """Heatmaps of one text and of twenty, then learning."""
    blocks = random_blocks(shapes, evaluations, torch.float16, setup.device)
    trace = SimpleNamespace(blocks=blocks)
    read = sum(block.queries.nbytes for block in blocks)
    for tokens, texts in product(TOKENS, TEXTS):
        rows = torch.cat([random_rows(shapes, tokens, seed, setup.device) for seed in range(texts)])
        lengths = [tokens] * texts

        def ours(rows: Tensor = rows, lengths: Sequence[int] = lengths) -> Tensor:
            return added(blocks, rows, lambda queries, keys: text_sums(queries, keys, lengths))

        def reference(rows: Tensor = rows, tokens: int = tokens) -> Tensor:
            return plain.heatmaps(trace, rows[:tokens].half())

        with torch.inference_mode():
            exact, found = reference(), ours()[:tokens]
            pairs = in_turn(reference, ours, setup.times(5), 15)
            alone = min(seconds(ours) for _ in range(setup.times(50)))
        yield Result(
            name=f"kernels/attribute/{tokens} tokens/{texts} texts",
            says=f"{shapes.name}, fp16, {evaluations} evaluations: heatmaps of {texts} texts of {tokens} tokens",
            value=1000 * alone,
            unit="ms",
            goal=MILLISECONDS.get((tokens, texts)),
            samples=[1000 * other for _, other in pairs],
            details={
                "times_as_fast_as_plain": texts * min(one for one, _ in pairs) / alone,
                "relative_error": float((found - exact).abs().max() / exact.abs().max()),
                "bytes_read": read,
                "bytes_per_second": read / alone,
            },
        )
    yield learned(setup, shapes, random_blocks(shapes, LEARNED_EVALUATIONS, torch.float16, setup.device))


def learned(setup: Setup, shapes: Shapes, blocks: Sequence[Block]) -> Result:
    """Epochs of learning one class, as one graph each."""
    mask, rate = disc(shapes, setup.device), 100.0
    target = torch.stack([~mask, mask]).float()
    start = random_rows(shapes, 2, device=setup.device)
    tokens = start.clone().requires_grad_()
    terms = sum(block.queries.shape[0] * block.queries.shape[1] for block in blocks)

    def work() -> tuple[Tensor, Tensor]:
        maps = interpolate(added(blocks, tokens, attention_sum)[None] / terms, size=mask.shape, mode="bilinear")[0]
        loss = binary_cross_entropy(maps.clamp(1e-6, 1 - 1e-6), target, reduction="none").sum(dim=0).mean()
        return loss.detach(), torch.autograd.grad(loss, tokens)[0]

    step = recorded(work, torch.device(setup.device))

    def ours(epochs: int = EPOCHS) -> None:
        for _ in range(epochs):
            _, slope = step()
            with torch.no_grad():
                tokens.sub_(slope, alpha=rate)

    reference = [seconds(lambda: plain.epoch(SimpleNamespace(blocks=blocks), start.half(), target, rate)) for _ in range(4)]
    ours(3)
    samples = [seconds(ours) for _ in range(setup.times(3))]
    return Result(
        name=f"kernels/learn/{EPOCHS} epochs",
        says=f"{shapes.name}, fp16, {LEARNED_EVALUATIONS} evaluations: {EPOCHS} epochs of learning one class",
        value=median(samples),
        unit="s",
        goal=0.4,
        samples=samples,
        details={
            "times_as_fast_as_plain": EPOCHS * min(reference[1:]) / min(samples),
            "recorded": step is not work,
            "bytes_read": 2 * EPOCHS * sum(block.queries.nbytes for block in blocks),
        },
    )
