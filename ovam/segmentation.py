"""From a trace to segments: heatmap, refinement by self-attention, threshold, CRF and tidying in one call (Eq. 3 to 9)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from ovam.attention.competition import rows_in_softmax
from ovam.attention.halves import halved_target_heatmaps
from ovam.attention.targets import Rows, Words, photograph_of, target_heatmaps
from ovam.core.confidence import Calibration, Confidence
from ovam.core.masks import score
from ovam.core.methods import METHODS, Method, Softmax
from ovam.core.pictures import Picture, rgb_of
from ovam.core.settings import checked
from ovam.cutting import competitors_leakages, cuts, refined, refined_surely, required
from ovam.errors import InvalidArgumentError
from ovam.learning.token_files import LearnedTokens
from ovam.tracing.model import Pipeline
from ovam.tracing.trace import Trace, require_trace
from ovam.trained.networks import heats_of

Target = str | Words | Rows | LearnedTokens
"""What to look for. A plain word is short for `Words("a photograph of a <word>", word)`."""
How = str | Method
"""A method, or the name of a published one, whose settings for words or tokens are taken by the kind of target."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Where a target is in an image.

    >>> cat = ovam.segment(trace, pipeline, "cat", "daam")
    >>> cat.mask.dtype, cat.mask.shape == cat.heatmap.shape, 0 < cat.score <= 1
    (dtype('bool'), True, True)
    """

    heatmap: Float[np.ndarray, "height width"]
    """Refined heat at the image's size, float32: what the threshold cuts."""
    mask: Bool[np.ndarray, "height width"]
    """The target's pixels."""
    score: float
    """How sure the mask is: its mean heat as a fraction of the hottest pixel's, 0 to 1."""
    method: Method
    """The settings it was computed with."""
    leakage: float | None = None
    """How far its heat leaks to the targets that it competed with, 0 not at all to 1 as hot there; `None` if it did not."""
    confidence: Confidence | None = None
    """How sure the mask is, by how far halves of the attention agree with it; `None` unless that was asked for."""


@overload
def segment(
    trace: Trace,
    pipeline: Pipeline,
    targets: Target,
    method: How = "ovam",
    image: Picture | None = None,
    *,
    confidence: bool | Calibration = False,
) -> Segment: ...


@overload
def segment(
    trace: Trace,
    pipeline: Pipeline,
    targets: Sequence[Target],
    method: How | Sequence[How] = "ovam",
    image: Picture | None = None,
    *,
    softmax: Softmax = "each",
    distractors: Sequence[Target] = (),
    confidence: bool | Calibration = False,
) -> list[Segment]: ...


@checked
def segment(
    trace: Trace,
    pipeline: Pipeline,
    targets: Target | Sequence[Target],
    method: How | Sequence[How] = "ovam",
    image: Picture | None = None,
    *,
    softmax: Softmax = "each",
    distractors: Sequence[Target] = (),
    confidence: bool | Calibration = False,
) -> Segment | list[Segment]:
    """Find words or learned tokens in an image: one target gives one `Segment`, a sequence a list of them.

    Args:
        trace: The image's trace; with `self_attention=True` for methods that refine by it, such as "ovam".
        pipeline: The pipeline that the trace was captured from; it encodes the words.
        targets: A word, `Words`, `Rows` or `LearnedTokens`, or a sequence of these.
        method: A name in `METHODS`, a `Method`, or a sequence with one of them per target.
        image: The image itself, as large as the trace says; only methods with a CRF need it.
        softmax: "each": over a target's own prompt, or its tokens. "together": over all targets, which then compete; see
            `ovam.attention.competition.competing`.
        distractors: Further targets that compete but get no segment.
        confidence: Also say how sure each mask is, see `ovam.core.confidence`: by the agreement of its halves, or with a
            `Calibration` by the IoU to expect at that agreement.

    Raises:
        NoSelfAttentionError: The method refines by self-attention and the trace holds none.
        InvalidArgumentError: The method needs the image and there is none, or the image is of another size.
        WordNotInPromptError: A word is not in its prompt.
        NoNetworkError: The method has a trained network that the pipeline's model has not.
        FeaturesNotKeptError: The method has a trained network, whose features the trace holds not.

    >>> with ovam.capture(pipeline, self_attention=True) as traces:
    ...     image = pipeline("a cat and a dog", num_inference_steps=2).images[0]
    >>> found = ovam.segment(traces[0], pipeline, "cat", image=image)
    >>> found.heatmap.shape == found.mask.shape == traces[0].image_size
    True
    >>> cat, dog = ovam.segment(traces[0], pipeline, ["cat", "dog"], "daam")
    >>> dog.method == ovam.METHODS["daam"].words
    True
    >>> cat, dog = ovam.segment(traces[0], pipeline, ["cat", "dog"], "daam", softmax="together", distractors=["tree"])
    >>> all(one.leakage is None or 0 <= one.leakage <= 1 for one in (cat, dog))
    True

    """
    require_trace(trace)
    _require_softmax(softmax, distractors)
    several = isinstance(targets, Sequence) and not isinstance(targets, str)
    asked = targets if several else [targets]
    wanted = [target_of(one) for one in asked]
    methods = methods_of(method, wanted)
    wanted = [
        Words(trace.prompt, one) if isinstance(one, str) and trace.prompt and how.attention in ("joint", "text") else target
        for one, target, how in zip(asked, wanted, methods, strict=True)
    ]
    require_attention(methods, softmax, confidence=confidence is not False)
    pixels = _fitting(image, trace, methods)
    others = [target_of(one) for one in ([distractors] if isinstance(distractors, str) else distractors)]
    rows = rows_in_softmax(pipeline, wanted, methods, softmax, others, trace.clip_skip, trace)
    calibrations = None
    if confidence is not False:
        calibrations = [confidence if isinstance(confidence, Calibration) else None] * len(rows)
    _, heats, sure = heat_of(trace, pipeline, wanted, rows, methods, trace.image_size, calibrations)
    masks = cuts(methods, heats, pixels)
    leaking = competitors_leakages(heats, methods, rows) if softmax == "together" else [None] * len(masks)
    found = [
        Segment(heat, mask, score(heat, mask), one, leaked, each)
        for heat, mask, one, leaked, each in zip(heats, masks, methods, leaking, sure, strict=True)
    ]
    return found if several else found[0]


def _require_softmax(softmax: str, distractors: Sequence[Target]) -> None:
    """Raise `InvalidArgumentError` for distractors that would compete with nothing."""
    if softmax == "each" and distractors:
        raise InvalidArgumentError("distractors", f"{len(distractors)} targets", "none with softmax='each'")


def require_attention(methods: Sequence[Method], softmax: Softmax, *, confidence: bool = False) -> None:
    """Raise `InvalidArgumentError` for what a trained network cannot say, which sees each target alone and as a whole."""
    network = next((method.network for method in methods if method.network is not None), None)
    if softmax == "together" and network is not None:
        raise InvalidArgumentError("softmax", softmax, f"'each' with the network {network!r}, which sees each target alone")
    if confidence and network is not None:
        raise InvalidArgumentError("confidence", confidence, f"none with the network {network!r}, which has no halves")


def heat_of(
    trace: Trace,
    pipeline: Pipeline,
    targets: Sequence[Words | Rows],
    rows: Sequence[Rows],
    methods: Sequence[Method],
    size: tuple[int, int],
    calibrations: Sequence[Calibration | None] | None = None,
) -> tuple[list[Float[Tensor, "_ _"]], list[Float[np.ndarray, "height width"]], list[Confidence | None]]:
    """Return each target's heatmap, what its threshold cuts at `size` (height, width), and how sure that is, with `calibrations`.

    Heat is that of the attention to a target's `rows`, or what its method's trained network says.
    """
    if calibrations is not None:
        halves = halved_target_heatmaps(trace, rows, methods)
        heats, sure = refined_surely(halves, methods, size, trace.self_attention, calibrations)
        return [each.whole for each in halves], heats, sure
    found = heats_of(trace, pipeline, targets, methods)
    numbers = [number for number in range(len(targets)) if number not in found]
    maps = target_heatmaps(trace, [rows[number] for number in numbers], [methods[number] for number in numbers])
    found |= dict(zip(numbers, maps, strict=True))
    heatmaps = [found[number] for number in range(len(targets))]
    return heatmaps, refined(heatmaps, methods, size, trace.self_attention), [None] * len(heatmaps)


def target_of(target: Target) -> Words | Rows:
    """Return a target as words or rows. Raises `InvalidArgumentError` for tokens of several classes, until one is named."""
    match target:
        case str():
            return photograph_of(target)
        case LearnedTokens():
            return target.only()
        case Words() | Rows():
            return target
        case _:
            raise InvalidArgumentError("targets", target, "a word, Words, Rows, LearnedTokens, or a sequence of these")


def methods_of(method: How | Sequence[How], targets: Sequence[Words | Rows]) -> list[Method]:
    """Return each target's method: the settings of a named one go by the kind of target.

    Raises `UnknownMethodError`, and `InvalidArgumentError` for another number of methods than targets.
    """
    if not isinstance(method, str | Method | Sequence):
        raise InvalidArgumentError("method", method, "the name of a method, a Method, or a sequence of these")
    each = [method] * len(targets) if isinstance(method, str | Method) else [*method]
    if len(each) != len(targets):
        raise InvalidArgumentError("method", f"{len(each)} methods", f"one, or one for each of {len(targets)} targets")
    return [
        one if isinstance(one, Method) else METHODS[one].of("words" if isinstance(target, Words) else "tokens")
        for one, target in zip(each, targets, strict=True)
    ]


def _fitting(image: Picture | None, trace: Trace, methods: Sequence[Method]) -> np.ndarray | None:
    """Return the image's pixels if a method needs them."""
    if not any(method.crf is not None for method in methods):
        return None
    pixels = rgb_of(required(image))
    if pixels.shape[:2] != trace.image_size:
        raise InvalidArgumentError(
            "image", pixels.shape[:2], f"(height, width) {trace.image_size}, the size of the trace's image"
        )
    return pixels
