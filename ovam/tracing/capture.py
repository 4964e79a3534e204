"""Keeping the pixel queries of a generation while it runs (Eq. 1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from ovam.core.selection import Blocks, Positions
from ovam.errors import CaptureError, InvalidArgumentError
from ovam.tracing.model import Pipeline
from ovam.tracing.recorder import Choice, Evaluation, Source, recording
from ovam.tracing.trace import Half, Trace


@contextmanager
def capture(
    pipeline: Pipeline,
    *,
    half: Half = "conditional",
    blocks: Blocks = "all",
    evaluations: Positions | slice = "all",
    heads: Positions | slice = "all",
    mid_block: bool = False,
    self_attention: bool = False,
) -> Iterator[list[Trace]]:
    """Keep the queries of every image that `pipeline` generates inside the `with`: one `Trace` per image (Eq. 1).

    The list is filled when the block exits normally, in the order of the images, call after call. Images are bitwise
    the same as without capture, and no hook outlives the block. A call that was interrupted, or whose exception was
    caught inside the block, leaves no trace. Calls of another pipeline on the same UNet, such as a second pass at a higher
    resolution, leave traces too, unless that pipeline has a capture of its own.

    Args:
        pipeline: A Stable Diffusion pipeline; adapters may be loaded, projections fused and the UNet compiled inside the block.
        half: The branch of classifier-free guidance whose queries are kept.
        blocks: Which cross-attention blocks; see `ovam.core.selection.Blocks`.
        evaluations: Which UNet evaluations of each call; see `ovam.core.selection.Positions`. A slice works, too.
        heads: Which heads of every block.
        mid_block: Keep the mid block too, which the paper leaves out.
        self_attention: Keep the self-attentions on the UNet's largest grid too, for methods that refine by them.

    Raises `UnsupportedModelError`, `CompiledModelError`, `SelectionError`; and during the generation `CaptureError`, or
    `SelectionError` for a resolution that no block has.

    >>> with ovam.capture(pipeline, self_attention=True) as traces:
    ...     images = pipeline(["a cat", "a dog"], num_inference_steps=2).images
    >>> len(traces), traces[0].image_size
    (2, (64, 64))

    """
    if half not in get_args(Half):
        raise InvalidArgumentError("half", half, "'conditional' or 'unconditional'")
    choice = Choice(half, blocks, evaluations, heads, mid_block, self_attention)
    traces: list[Trace] = []
    with recording(Source(pipeline, lambda caller, rows: _evaluation(caller, half, rows)), choice) as recorder:
        yield traces
    traces.extend(recorder.traces())


def _evaluation(pipeline: Pipeline, half: Half, rows: int) -> Evaluation:
    """Return where an evaluation of a generation belongs: every call of a pipeline sets new timesteps."""
    try:
        guided, expected = bool(pipeline.do_classifier_free_guidance), pipeline.num_timesteps
    except AttributeError as error:
        message = "the UNet was called, but not by a pipeline, from which guidance and timesteps would be known"
        raise CaptureError(message) from error
    images = rows // 2 if guided else rows
    if half == "unconditional" and not guided:
        raise CaptureError("half='unconditional', but guidance is off: the batch has one half, the conditional one")
    schedule = pipeline.scheduler.timesteps
    kept = slice(images, None) if guided and half == "conditional" else slice(images)
    return Evaluation(schedule, min(len(schedule), expected), kept)
