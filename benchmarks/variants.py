"""What may make a generation faster, on and off: the layout of memory, attention kernels, `torch.compile`."""

import time
from collections.abc import Callable, Iterator

import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.library import generate, load
from benchmarks.result import Result, Setup
from benchmarks.timing import in_turn

PAYS = 1.05  # times as fast; less is not worth another way through the code

Change = Callable[[StableDiffusionPipeline], object]


def variants(setup: Setup) -> Iterator[Result]:
    """Generations of the model as a worker has it, beside the same with one thing changed."""
    changes: dict[str, Change] = {
        "channels last": lambda pipeline: pipeline.unet.to(memory_format=torch.channels_last),
        "plain attention": lambda pipeline: pipeline.unet.set_attn_processor(AttnProcessor()),
        "compiled": lambda pipeline: pipeline.unet.compile(),
    }
    for name, change in changes.items():
        if setup.rows in f"variant/{name}":
            pipeline, changed = on_device(setup), on_device(setup)
            change(changed)
            yield compared(setup, name, lambda one=pipeline: generate(one), lambda one=changed: generate(one))
    if setup.rows in "variant/math kernel":
        pipeline = on_device(setup)
        yield compared(setup, "math kernel", lambda: generate(pipeline), lambda: by_math(pipeline))


def on_device(setup: Setup) -> StableDiffusionPipeline:
    """The model in the type and on the device of a worker."""
    pipeline = load(setup).to(setup.device)
    return pipeline if setup.device == "cpu" else pipeline.to(dtype=torch.float16)


def by_math(pipeline: StableDiffusionPipeline) -> None:
    """Draw with the attention kernel that keeps all scores."""
    with sdpa_kernel(SDPBackend.MATH):
        generate(pipeline)


def compared(setup: Setup, name: str, plain: Callable[[], None], other: Callable[[], None]) -> Result:
    """A row: how much faster a generation is when it is changed."""
    start = time.perf_counter()
    plain(), other()
    first = time.perf_counter() - start
    pairs = in_turn(plain, other, setup.times(7), setup.seconds / 4, warm=False, clock=setup.clock)
    before, after = min(one for one, _ in pairs), min(each for _, each in pairs)
    return Result(
        name=f"variant/{name}",
        says=f"a generation with {name}: times as fast as without",
        value=before / after,
        unit="x",
        samples=[one / each for one, each in pairs],
        details={"seconds_without": before, "seconds_with": after, "both_first_seconds": first, "pays": before / after > PAYS},
    )
