"""The library's measurements with a model: what capture costs a generation, many targets, a whole optimisation."""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

import ovam
from benchmarks.result import Result, Setup, median
from benchmarks.timing import in_turn, seconds
from ovam.learning.initial import initial_tokens
from worker.models import hide_progress_bars

PROMPT = "a photograph of a sun and a house"
STEPS = 30
EPOCHS = 200
RADIUS = 0.5  # of the disc to learn, where an image's half width is 1


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
    return kept(setup, "capture", "capture", goal=1.02, self_attention=False)


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
