"""Keeping the pixel queries of a generation while it runs (Eq. 1)."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, get_args

from ovam.core.selection import Blocks, FeatureChoice, Positions
from ovam.core.settings import checked
from ovam.errors import CaptureError, InvalidArgumentError
from ovam.tracing.families import family_of
from ovam.tracing.joint import prompts_of
from ovam.tracing.model import Pipeline, plain_unet
from ovam.tracing.prediction import Latents
from ovam.tracing.recorder import Choice, Evaluation, Recorder, Source, recording
from ovam.tracing.replay import Replay
from ovam.tracing.trace import Half, Trace


@checked
@contextmanager
def capture(  # noqa: PLR0913 - every choice is one keyword
    pipeline: Pipeline,
    *,
    half: Half = "conditional",
    blocks: Blocks = "all",
    evaluations: Positions | slice = "all",
    heads: Positions | slice = "all",
    mid_block: bool = False,
    self_attention: bool = False,
    features: FeatureChoice | None = None,
    contributions: bool = False,
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
        features: Keep what some of the UNet's blocks give out, too, for methods with a trained network: `FeatureChoice()` is
            all blocks at the last evaluation.
        contributions: Keep how much heads and blocks contribute, too, for methods with `aggregation="automatic"`.

    Raises `UnsupportedModelError`, `CompiledModelError`, `InvalidArgumentError`, `SelectionError`; and during the generation
    `CaptureError`, or `SelectionError` for a resolution that no block has.

    >>> with ovam.capture(pipeline, self_attention=True) as traces:
    ...     images = pipeline(["a cat", "a dog"], num_inference_steps=2).images
    >>> len(traces), traces[0].image_size
    (2, (64, 64))

    """
    choice = Choice(half, blocks, evaluations, heads, mid_block, self_attention, features=features, contributions=contributions)
    with capture_live(pipeline, choice) as live:
        yield live.traces


class Live:
    """A capture that can be looked into while it is under way, by the thread that generates: between two of its steps."""

    def __init__(self, recorder: Recorder, half: Half) -> None:
        self.traces: list[Trace] = []
        """Those of the images that are ready, once the capture has ended."""
        self._recorder = recorder
        self._half = half

    @property
    def evaluations(self) -> tuple[int, int]:
        """How many evaluations the running call has made, and how many it makes."""
        call = self._recorder.running()
        return (0, 0) if call is None else (call.finished, call.expected)

    def so_far(self) -> list[Trace]:
        """Return a trace per image of the running call: of the evaluations that were made, of those that are kept.

        It is what the finished trace is, cut short: its last `evaluations` are not there yet. Empty before the first.
        """
        call = self._recorder.running()
        there = call is not None and call.timesteps and (call.kept or call.joint)
        return [*call.traces(self._half, release=False)] if call is not None and there else []

    def predicted(self) -> Latents | None:
        """Return the latents that the running call's images would have by the UNet's latest prediction, see `Prediction`."""
        call = self._recorder.running()
        return None if call is None or call.predicted is None else call.predicted.latents(call.caller, call.images)


@contextmanager
def capture_live(pipeline: Pipeline, choice: Choice) -> Iterator[Live]:
    """Do as `capture` does, and let the generation's callback see what has been captured so far."""
    with _recording(pipeline, choice) as recorder:
        live = Live(recorder, choice.half)
        yield live
    live.traces.extend(recorder.traces())


@checked
@contextmanager
def capture_replay(
    pipeline: Pipeline,
    *,
    half: Half = "conditional",
    blocks: Blocks = "all",
    evaluations: Positions | slice = "all",
    heads: Positions | slice = "all",
    mid_block: bool = False,
) -> Iterator[list[Replay]]:
    """Keep what the UNet is given for every image that `pipeline` generates inside the `with`: one `Replay` per image.

    A replay is some hundred times smaller than a trace, and the same UNet computes that trace from it when it is asked for:
    `Replay.trace`. Self-attentions need not be foreseen. Arguments and all else are as in `capture`, inside of which this may
    be nested, to have both.

    Raises what `capture` raises, and `NotReplayableError`, before the image is drawn, for what a replay cannot keep: a
    ControlNet's residuals, arguments of attention processors, weights that are offloaded one by one.

    >>> with ovam.capture_replay(pipeline) as replays:
    ...     images = pipeline(["a cat", "a dog"], num_inference_steps=2).images
    >>> trace = replays[1].trace(pipeline)
    >>> len(replays), trace.image_size
    (2, (64, 64))

    """
    replays: list[Replay] = []
    with _recording(pipeline, Choice(half, blocks, evaluations, heads, mid_block, True, "replay")) as recorder:
        yield replays
    replays.extend(recorder.replays())


def _recording(pipeline: Pipeline, choice: Choice) -> AbstractContextManager[Recorder]:
    """Record the generations of a pipeline."""
    if choice.half not in get_args(Half):
        raise InvalidArgumentError("half", choice.half, "'conditional' or 'unconditional'")
    return recording(Source(pipeline, lambda *evaluation: _evaluation(choice.half, *evaluation)), choice)


def _evaluation(half: Half, pipeline: Pipeline, given: Mapping[str, Any], call: Mapping[str, Any]) -> Evaluation | None:
    """Return where an evaluation of a generation belongs: every call of a pipeline sets new timesteps.

    `None` for one that is of the other half alone, or that leaves layers out (SD3's guidance by skipped layers).
    """
    try:
        expected = pipeline.num_timesteps if hasattr(pipeline, "num_timesteps") else len(call["timesteps"])
    except (AttributeError, KeyError) as error:
        message = "the UNet was called, but not by a pipeline, from which guidance and timesteps would be known"
        raise CaptureError(message) from error
    rows, schedule = given["sample"].shape[0], pipeline.scheduler.timesteps
    apart = family_of(plain_unet(pipeline)).packed  # the halves are evaluated one after the other
    guided = _guided(pipeline, call)
    images = rows // 2 if guided and not apart else rows
    if half == "unconditional" and not guided:
        raise CaptureError("half='unconditional', but guidance is off: the batch has one half, the conditional one")
    if given.get("skip_layers") is not None:
        return None
    if apart and guided and (given["encoder_hidden_states"] is call["negative_prompt_embeds"]) != (half == "unconditional"):
        return None
    halves = (slice(images), slice(images, None)) if guided and not apart else (slice(images),)
    kept = halves[-1] if half == "conditional" else halves[0]
    return Evaluation(schedule, expected, kept, halves, prompts_of(call, half, images))


def _guided(pipeline: Pipeline, call: Mapping[str, Any]) -> bool:
    """Whether a batch has two halves."""
    known = call.get("do_true_cfg", call.get("do_classifier_free_guidance"))
    return bool(getattr(pipeline, "do_classifier_free_guidance", False) if known is None else known)
