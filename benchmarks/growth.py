"""How time and memory grow while one thing doubles and the rest stays: nothing may grow faster than its work."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch

import ovam
from benchmarks.plot import Curve, log_plot
from benchmarks.result import Result, Setup
from benchmarks.shapes import SD15, Shapes, random_rows, random_trace
from benchmarks.stored_jobs import COUNTS, doubled, valkey
from benchmarks.timing import peak_bytes, seconds
from ovam.attention.targets import target_heatmaps

SMALL = Shapes("SD 1.5, two blocks", ((64, 8, 40, 1), (32, 8, 80, 1)), SD15.width, SD15.image)
Work = Callable[[], object]
PLOT = "growth.svg"


def heat(evaluations: int = 4, tokens: int = 16, targets: int = 1, side: int = 64, device: str = "cpu") -> Work:
    """Heatmaps of so many targets, each of a text of its own, on a largest grid of side x side pixels."""
    shapes = Shapes(
        "", tuple((grid * side // 64, heads, length, count) for grid, heads, length, count in SMALL.grids), SMALL.width, 8 * side
    )
    trace = random_trace(shapes, evaluations, device=device)
    rows = [ovam.Rows(random_rows(shapes, tokens, seed, device), (1,)) for seed in range(targets)]
    return lambda: target_heatmaps(trace, rows, [ovam.Method()] * targets)


def learn(classes: int, device: str = "cpu") -> Work:
    """Two epochs of learning so many classes beside the background."""
    trace = random_trace(SMALL, 4, device=device)
    labels = (torch.arange(SMALL.image) * (classes + 1) // SMALL.image).expand(SMALL.image, -1)  # stripes
    init = random_rows(SMALL, classes + 1, device=device)
    return lambda: ovam.optimize_tokens([(trace, labels)], init, epochs=2, patience=None)


def growth(setup: Setup) -> Iterator[Result]:
    """One row for each thing that doubles: the exponent of time, 1 when twice as much takes twice as long."""
    device = setup.device
    doubling: dict[str, tuple[Sequence[int], Callable[[int], Work], float]] = {
        "targets": ((1, 2, 4, 8, 16), lambda count: heat(targets=count, device=device), 1),
        "tokens": ((8, 16, 32, 64), lambda count: heat(tokens=count, device=device), 1),
        "evaluations": ((2, 4, 8, 16), lambda count: heat(evaluations=count, device=device), 1),
        "side": ((16, 32, 64, 128), lambda count: heat(side=count, device=device), 2),
        "classes": ((2, 4, 8, 16), lambda count: learn(count, device=device), 1),
    }
    curves: list[Curve] = []
    for name, (counts, work_of, order) in doubling.items():
        measured = [measure(work_of(count), setup) for count in counts]
        curves.append(Curve(name, counts, [one for one, _ in measured]))
        yield exponent(name, counts, measured, order)
    with valkey() as url:
        measured = list(doubled(url, setup.times(9), setup.clock))
    curves.append(Curve("stored jobs", COUNTS, [one for one, _ in measured]))
    yield exponent("stored jobs", COUNTS, measured, 0)
    setup.results.mkdir(parents=True, exist_ok=True)
    (setup.results / PLOT).write_text(log_plot(curves, "seconds"))


def exponent(name: str, counts: Sequence[int], measured: Sequence[tuple[float, int]], order: float) -> Result:
    """A row: how much longer it takes when there is twice as much, as a power of two; `order` is that of the work."""
    times, sizes = [one for one, _ in measured], [other for _, other in measured]
    return Result(
        name=f"growth/{name}",
        says=f"exponent of time by {name}, from {counts[-2]} to {counts[-1]}",
        value=math.log2(times[-1] / times[-2]),
        unit="",
        goal=order + 0.25,
        samples=times,
        details={"memory_exponent": math.log2(max(sizes[-1], 1) / max(sizes[-2], 1)), "peak_bytes": sizes[-1]},
    )


def measure(work: Work, setup: Setup) -> tuple[float, int]:
    """The shortest time of work, and its memory."""
    size, _ = peak_bytes(work)
    return min(seconds(work, setup.clock) for _ in range(setup.times(5))), size
