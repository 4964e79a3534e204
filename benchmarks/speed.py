"""How fast the library is beside a plain reference: heatmaps, their refinement, the learning of tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

import ovam
from benchmarks import plain
from benchmarks.result import Result, Setup, median
from benchmarks.shapes import BUNDLED, SD15, SDXL, Shapes, disc, random_layer, random_rows, random_trace
from benchmarks.timing import in_turn, peak_bytes
from ovam.attention.refinement import affinity
from ovam.attention.targets import target_heatmaps
from ovam.tracing.blocks import SelfAttention

TOKENS, EVALUATIONS, TARGETS = (8, 20, 77), (10, 30), (1, 20)
EPOCHS = 4
QUESTIONS, STEPS = 2, 4
FEW = {"SDXL": (2,)}
"""Evaluations of shapes whose queries take 420 MB each in single precision."""
GOALS = {("SD 1.5", 77): 3.0}


def attribution(setup: Setup, shapes: Sequence[Shapes] = (BUNDLED, SD15, SDXL)) -> Iterator[Result]:
    """Heatmaps of targets, each the second row of a text of its own, beside the plain reference."""
    for shape, evaluations in counted(shapes):
        names = {
            f"attribute/{shape.name}/{tokens} tokens/{evaluations} evaluations/{targets} targets": (tokens, targets)
            for tokens, targets in product(TOKENS, TARGETS)
        }
        wanted = {name: choice for name, choice in names.items() if setup.rows in name}
        if not wanted:
            continue
        trace = random_trace(shape, evaluations, device=setup.device)
        for name, (tokens, targets) in wanted.items():
            yield attributed(setup, name, shape, trace, tokens, targets)


def counted(shapes: Sequence[Shapes]) -> Iterator[tuple[Shapes, int]]:
    """Yield shapes, each with the numbers of evaluations that are measured."""
    for shape in shapes:
        for evaluations in FEW.get(shape.name, EVALUATIONS):
            yield shape, evaluations


def attributed(setup: Setup, name: str, shapes: Shapes, trace: ovam.Trace, tokens: int, targets: int) -> Result:
    """One row: so many targets of texts of so many tokens.

    The plain reference takes one text after the other, so that it is measured with one and counted as often as there are.
    """
    texts = [random_rows(shapes, tokens, seed, setup.device) for seed in range(targets)]
    rows, methods = [ovam.Rows(text, (1,)) for text in texts], [ovam.Method()] * targets
    terms = sum(block.queries.shape[0] * block.heads for block in trace.blocks)

    def reference() -> Tensor:
        return plain.heatmaps(trace.blocks, texts[0])[1] / terms

    def ours() -> list[Tensor]:
        return target_heatmaps(trace, rows, methods)

    with torch.inference_mode():
        (plain_bytes, exact), (our_bytes, found) = peak_bytes(reference), peak_bytes(ours)
        away = float((found[0] - exact).abs().max() / exact.abs().max())
        pairs = in_turn(reference, ours, setup.times(9), setup.seconds / 4, warm=False, clock=setup.clock)
    evaluations = len(trace.evaluations)
    return compared(
        name,
        f"heatmaps of {targets} targets of {tokens} tokens, {shapes.name}, {evaluations} evaluations",
        [(one * targets, other) for one, other in pairs],
        goal=GOALS.get((shapes.name, tokens)) if targets == 1 else None,
        relative_error=away,
        peak_bytes_plain=plain_bytes,
        peak_bytes=our_bytes,
        bytes_read=trace.nbytes,
        operations=2 * tokens * targets * evaluations * shapes.values(),
        exponentials=tokens * targets * evaluations * shapes.scores(),
    )


def learning(setup: Setup, shapes: Sequence[Shapes] = (BUNDLED, SD15, SDXL)) -> Iterator[Result]:
    """An epoch of learning one class beside the plain reference."""
    for shape, evaluations in counted(shapes):
        name = f"learn/{shape.name}/{evaluations} evaluations"
        if setup.rows not in name:
            continue
        trace = random_trace(shape, evaluations, device=setup.device)
        mask, init = disc(shape, setup.device), random_rows(shape, 2, device=setup.device)
        target = torch.stack([~mask, mask]).float()

        def ours(trace: ovam.Trace = trace, mask: Tensor = mask, init: Tensor = init) -> Tensor:
            return ovam.optimize_tokens([(trace, mask.cpu())], init, epochs=EPOCHS, patience=None).embedding

        def reference(trace: ovam.Trace = trace, target: Tensor = target, init: Tensor = init) -> Tensor:
            for _ in range(EPOCHS):
                init = plain.epoch(trace.blocks, init, target, 100.0)
            return init

        (plain_bytes, _), (our_bytes, _) = peak_bytes(reference), peak_bytes(ours)
        pairs = in_turn(reference, ours, setup.times(9), setup.seconds / 4, warm=False, clock=setup.clock)
        yield compared(
            name,
            f"{EPOCHS} epochs of learning one class, {shape.name}, {evaluations} evaluations",
            pairs,
            goal=2.0 if shape is SD15 else None,
            peak_bytes_plain=plain_bytes,
            peak_bytes=our_bytes,
            bytes_read=2 * EPOCHS * trace.nbytes,
        )


def refinement(setup: Setup, shapes: Sequence[Shapes] = (BUNDLED, SD15)) -> Iterator[Result]:
    """Questions to one trace, one after the other, each with affinity of some steps by one self-attention."""
    for shape in shapes:
        evaluations = EVALUATIONS[0]
        name = f"refine/{shape.name}/{evaluations} evaluations"
        if setup.rows not in name:
            continue
        layer = random_layer(shape, evaluations, setup.device)
        heat = torch.rand(QUESTIONS, *layer.grid, device=setup.device)

        def ours(layer: SelfAttention = layer, heat: Tensor = heat) -> Tensor:
            fresh = replace(layer)  # nothing of the turn before is kept with it
            return torch.cat([affinity(one[None], [fresh], steps=STEPS) for one in heat])

        def reference(layer: SelfAttention = layer, heat: Tensor = heat) -> Tensor:
            return torch.stack([plain.spread(one.flatten(), layer, STEPS).view(layer.grid) for one in heat])

        with torch.inference_mode():
            (plain_bytes, exact), (our_bytes, found) = peak_bytes(reference), peak_bytes(ours)
            pairs = in_turn(reference, ours, setup.times(5), setup.seconds / 4, warm=False, clock=setup.clock)
        yield compared(
            name,
            f"{QUESTIONS} questions of {STEPS} steps of affinity, one self-attention, {shape.name}, {evaluations} evaluations",
            pairs,
            relative_error=float((found - exact).abs().max() / exact.abs().max()),
            peak_bytes_plain=plain_bytes,
            peak_bytes=our_bytes,
        )


def compared(
    name: str, says: str, pairs: Sequence[tuple[float, float]], goal: float | None = None, **details: float | str
) -> Result:
    """A row of the plain reference's time over the library's: of the shortest of both, which other programs delay least."""
    theirs, ours = min(one for one, _ in pairs), min(other for _, other in pairs)
    return Result(
        name=name,
        says=f"{says}: times as fast as the plain reference",
        value=theirs / ours,
        unit="x",
        least=goal,
        samples=[one / other for one, other in pairs],
        details={
            "seconds_plain": theirs,
            "seconds": ours,
            "ratio_of_medians": median([one for one, _ in pairs]) / median([other for _, other in pairs]),
            "torch_threads": torch.get_num_threads(),
            **details,
        },
    )
