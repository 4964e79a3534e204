"""Micro-batches: jobs that are drawn together beside the same jobs one at a time, as a worker draws them."""

from collections.abc import Iterator
from contextlib import ExitStack

import torch
from diffusers import StableDiffusionPipeline

import ovam
from benchmarks.library import load
from benchmarks.result import Result, Setup
from benchmarks.timing import in_turn

SIZES = (4, 8)
STEPS = 10
GOAL_ON_GPU = 2.5
PROMPT = "a photograph of a {} on the grass"
THINGS = ("red car", "cat", "dog", "tree", "bus", "hat", "cup", "bird")


def batches(setup: Setup) -> Iterator[Result]:
    """So many prompts in one call of the pipeline, their queries and replays kept, beside a call for each."""
    pipeline = load(setup).to(setup.device)
    if setup.device != "cpu":
        pipeline = pipeline.to(dtype=torch.float16)
    for size in SIZES:
        name = f"batch/{setup.model.name}/{size} jobs"
        if setup.rows not in name:
            continue
        prompts: list[str] = [PROMPT.format(thing) for thing in THINGS[:size]]

        def apart(prompts: list[str] = prompts) -> None:
            for seed, prompt in enumerate(prompts):
                drawn(pipeline, [prompt], seed)

        def together(prompts: list[str] = prompts) -> None:
            drawn(pipeline, prompts, 0)

        pairs = in_turn(apart, together, setup.times(5), setup.seconds / len(SIZES), clock=setup.clock)
        one_at_a_time, at_once = min(one for one, _ in pairs), min(other for _, other in pairs)
        yield Result(
            name=name,
            says=f"{size} jobs of one image and {STEPS} steps: times as fast together as one at a time",
            value=one_at_a_time / at_once,
            unit="x",
            least=GOAL_ON_GPU if setup.device != "cpu" else None,
            samples=[one / other for one, other in pairs],
            details={"seconds_one_at_a_time": one_at_a_time, "seconds": at_once, "device": setup.device},
        )


def drawn(pipeline: StableDiffusionPipeline, prompts: list[str], seed: int) -> None:
    """Draw images and keep of them what a worker keeps."""
    seeds = [torch.Generator().manual_seed(seed + number) for number in range(len(prompts))]
    with ExitStack() as stack:
        stack.enter_context(ovam.capture(pipeline, self_attention=True))
        stack.enter_context(ovam.capture_replay(pipeline))
        pipeline(prompts, num_inference_steps=STEPS, generator=seeds)
