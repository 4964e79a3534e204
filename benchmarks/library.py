"""The library's own measurements: capture, heatmaps, optimisation."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

import ovam
from benchmarks.result import Result, Setup, median
from ovam.learning.initial import initial_tokens
from worker.models import hide_progress_bars

PROMPT = "a photograph of a sun and a house"
STEPS = 30
EPOCHS = 200
RADIUS = 0.5  # of the disc to learn, where an image's half width is 1


def seconds(work: Callable[[], object]) -> float:
    """How long work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(first: Callable[[], object], second: Callable[[], object], repeats: int, limit: float) -> list[tuple[float, float]]:
    """Time two ways in turn, each of them first every other time, so that neither has the better moments."""
    first(), second()
    end = time.perf_counter() + limit
    pairs = []
    for turn in range(repeats):
        if turn and time.perf_counter() > end:
            break
        if turn % 2:
            late = seconds(second)
            pairs.append((seconds(first), late))
        else:
            pairs.append((seconds(first), seconds(second)))
    return pairs


def load(setup: Setup) -> StableDiffusionPipeline:
    """The model to measure, on the CPU and with the worker's type there, whatever its files have."""
    if setup.threads:
        torch.set_num_threads(setup.threads)
    hide_progress_bars()
    pipeline = StableDiffusionPipeline.from_pretrained(
        setup.model, dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(pipeline: StableDiffusionPipeline) -> None:
    """Draw one image."""
    pipeline(PROMPT, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(0))


def traced(pipeline: StableDiffusionPipeline, *, self_attention: bool = False) -> ovam.Trace:
    """Draw one image and keep its trace."""
    with ovam.capture(pipeline, self_attention=self_attention) as traces:
        generate(pipeline)
    return traces[0]


def capture(setup: Setup) -> Result:
    """What keeping the queries costs a generation."""
    return kept(setup, "capture", "capture", goal=1.05, self_attention=False)


def self_attention(setup: Setup) -> Result:
    """What keeping the self-attention as well costs a generation."""
    return kept(setup, "self_attention", "capture of queries and self-attention", goal=1.25, self_attention=True)


def kept(setup: Setup, name: str, what: str, *, goal: float, self_attention: bool) -> Result:
    """How much longer a generation takes when something of it is kept."""
    pipeline = load(setup)
    pairs = in_turn(
        lambda: generate(pipeline), lambda: traced(pipeline, self_attention=self_attention), setup.times(20), setup.seconds
    )
    ratios = [longer / plain for plain, longer in pairs]
    return Result(
        name=name,
        says=f"generation of one image, {STEPS} steps: time with {what} over time without, median of pairs run in turn",
        value=median(ratios),
        unit="x",
        goal=goal,
        samples=ratios,
        details={
            "seconds_without": median([plain for plain, _ in pairs]),
            "seconds_with": median([longer for _, longer in pairs]),
            "pairs": len(pairs),
            "torch_threads": torch.get_num_threads(),
        },
    )


def targets_pairs(setup: Setup, words: Sequence[str]) -> list[tuple[float, float]]:
    """Seconds from one word, and from all words in prompts of their own, to their masks."""
    pipeline = load(setup)
    trace = traced(pipeline).to(dtype=torch.float16)  # as the worker keeps it

    def masks(some: Sequence[str]) -> list[np.ndarray]:
        return [segment.mask for segment in ovam.segment(trace, pipeline, some, "daam")]

    with torch.inference_mode():
        return in_turn(lambda: masks(words[:1]), lambda: masks(words), setup.times(40), setup.seconds)


def optimisation(setup: Setup) -> Result:
    """How long a token takes to learn."""
    pipeline = load(setup)
    trace = traced(pipeline)
    height, width = trace.image_size
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    mask = rows.square() + columns.square() < RADIUS**2
    init = initial_tokens(pipeline, "sun")

    def learn() -> None:
        fit = ovam.optimize_tokens([(trace, mask)], init, optimizer="adam", epochs=EPOCHS, patience=None)
        if len(fit.losses) != EPOCHS:
            raise RuntimeError(f"{len(fit.losses)} epochs instead of {EPOCHS}: {fit.ended}")

    learn()
    samples = [seconds(learn) for _ in range(setup.times(3))]
    return Result(
        name="optimisation",
        says=f"{EPOCHS} epochs of Adam on one {width}x{height} image with {len(trace.evaluations)} evaluations",
        value=median(samples),
        unit="s",
        goal=10.0,
        samples=samples,
        details={"trace_bytes": trace.nbytes, "torch_threads": torch.get_num_threads()},
    )


def heatmaps(setup: Setup) -> Result:
    """How the library's heatmaps compare with the equations written down as they stand."""
    pipeline = load(setup)
    trace = traced(pipeline)
    embedding, _ = ovam.encode(pipeline, PROMPT)
    with torch.inference_mode():
        ours, theirs = ovam.heatmaps(trace, embedding, reduction="sum"), plain_heatmaps(trace, embedding)
        pairs = in_turn(
            lambda: plain_heatmaps(trace, embedding),
            lambda: ovam.heatmaps(trace, embedding, reduction="sum"),
            setup.times(20),
            setup.seconds,
        )
    ratios = [own / plain for plain, own in pairs]
    return Result(
        name="heatmaps",
        says=f"heatmaps of {len(embedding)} tokens: time over that of Eq. 3 to 5 written down plainly, median of pairs",
        value=median(ratios),
        unit="x",
        samples=ratios,
        details={
            "seconds_plain": median([plain for plain, _ in pairs]),
            "seconds_ours": median([own for _, own in pairs]),
            "largest_relative_difference": float(((ours - theirs).abs() / theirs.abs().clamp_min(1e-12)).max()),
            "torch_threads": torch.get_num_threads(),
        },
    )


def plain_heatmaps(trace: ovam.Trace, embedding: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens height width"]:
    """Eq. 3 to 5 as they stand: a softmax per block, evaluation and head, every map resized, all added up."""
    size = max((block.grid for block in trace.blocks), key=lambda grid: grid[0] * grid[1])
    total = torch.zeros(len(embedding), *size)
    for block in trace.blocks:
        keys = block.keys(embedding)
        for queries in block.queries:
            for query, key in zip(queries, keys, strict=True):
                attention = (query @ key.T * block.scale).softmax(dim=-1)
                maps = attention.T.unflatten(-1, block.grid)
                total += interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
    return total
