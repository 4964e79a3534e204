"""From a trace to segments: heatmap, refinement by self-attention, threshold, CRF and tidying in one call (Eq. 3 to 9)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args, overload

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ovam.attention.competition import rows_in_softmax
from ovam.attention.halves import Halved, halved_target_heatmaps
from ovam.attention.refinement import Layer, affinity, attention_received
from ovam.attention.scores import resize
from ovam.attention.targets import Rows, Words, photograph_of, target_heatmaps
from ovam.core.confidence import Calibration, Confidence, confidence_of
from ovam.core.crf import CrfParameters, dense_crf
from ovam.core.masks import leakages, score, tidied, weighted
from ovam.core.methods import METHODS, Method, Softmax
from ovam.core.pictures import Picture, rgb_of
from ovam.core.thresholds import level_of, prepared, reaches
from ovam.errors import InvalidArgumentError, NoSelfAttentionError
from ovam.learning.token_files import LearnedTokens
from ovam.tracing.model import Pipeline
from ovam.tracing.trace import Trace, require_trace
from ovam.trained.networks import heats_of

Target = str | Words | Rows | LearnedTokens
"""What to look for. A plain word is short for `Words("a photograph of a <word>", word)`."""
How = str | Method
"""A method, or the name of a published one, whose settings for words or tokens are taken by the kind of target."""
Fit = Callable[[Picture, Sequence[np.ndarray], Sequence[CrfParameters]], list[np.ndarray]]
"""Fits masks of one image to its edges, each with its own parameters: `one_by_one`, or what does the same elsewhere, since that
holds Python's lock while it computes."""


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
    sure: Sequence[Confidence | None] = [None] * len(rows)
    if confidence is False:
        heats = refined(heatmaps_of(trace, pipeline, wanted, rows, methods), methods, trace.image_size, trace.self_attention)
    else:
        calibrations = [confidence if isinstance(confidence, Calibration) else None] * len(rows)
        halves = halved_target_heatmaps(trace, rows, methods)
        heats, sure = refined_surely(halves, methods, trace.image_size, trace.self_attention, calibrations)
    masks = cuts(methods, heats, pixels)
    leaking = competitors_leakages(heats, methods, rows) if softmax == "together" else [None] * len(masks)
    found = [
        Segment(heat, mask, score(heat, mask), one, leaked, each)
        for heat, mask, one, leaked, each in zip(heats, masks, methods, leaking, sure, strict=True)
    ]
    return found if several else found[0]


def _require_softmax(softmax: str, distractors: Sequence[Target]) -> None:
    """Raise `InvalidArgumentError` for another softmax, and for distractors that would compete with nothing."""
    if softmax not in get_args(Softmax):
        raise InvalidArgumentError("softmax", softmax, "'each' or 'together'")
    if softmax == "each" and distractors:
        raise InvalidArgumentError("distractors", f"{len(distractors)} targets", "none with softmax='each'")


def require_attention(methods: Sequence[Method], softmax: Softmax, *, confidence: bool = False) -> None:
    """Raise `InvalidArgumentError` for what a trained network cannot say, which sees each target alone and as a whole."""
    network = next((method.network for method in methods if method.network is not None), None)
    if softmax == "together" and network is not None:
        raise InvalidArgumentError("softmax", softmax, f"'each' with the network {network!r}, which sees each target alone")
    if confidence and network is not None:
        raise InvalidArgumentError("confidence", confidence, f"none with the network {network!r}, which has no halves")


def heatmaps_of(
    trace: Trace, pipeline: Pipeline, targets: Sequence[Words | Rows], rows: Sequence[Rows], methods: Sequence[Method]
) -> list[Float[Tensor, "_ _"]]:
    """Compute each target's heatmap: from the attention to its `rows`, or by its method's trained network."""
    found = heats_of(trace, pipeline, targets, methods)
    numbers = [number for number in range(len(targets)) if number not in found]
    maps = target_heatmaps(trace, [rows[number] for number in numbers], [methods[number] for number in numbers])
    found |= dict(zip(numbers, maps, strict=True))
    return [found[number] for number in range(len(targets))]


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


def refined(
    heatmaps: Sequence[Float[Tensor, "_ _"]], methods: Sequence[Method], size: tuple[int, int], layers: Sequence[Layer] = ()
) -> list[Float[np.ndarray, "height width"]]:
    """Bring each target's heatmap to what its threshold cuts, float32 of `size` (height, width), by its own method.

    In this order: affinity, resizing, min-max, weights. What targets have in common is computed once.

    Raises `NoSelfAttentionError` when a method needs layers and there are none.
    """
    if not layers and any(method.needs_self_attention for method in methods):
        raise NoSelfAttentionError(
            "the trace holds no self-attention, by which the method refines heat; "
            "capture with self_attention=True, or choose a method without refinement, such as 'daam'"
        )
    with torch.no_grad():
        received = attention_received(layers) if any(method.weights for method in methods) else None
        weights = None if received is None else resize(received[None], size)[0].float().cpu().numpy()
        spread = [resize(heat[None], size)[0].float().cpu().numpy() for heat in _spread(heatmaps, methods, layers)]
    found = []
    for method, heat in zip(methods, spread, strict=True):
        stretched = prepared(heat, method.threshold)
        found.append(stretched if weights is None or method.weights is None else weighted(stretched, weights, *method.weights))
    return found


def refined_surely(
    maps: Sequence[Halved],
    methods: Sequence[Method],
    size: tuple[int, int],
    layers: Sequence[Layer],
    calibrations: Sequence[Calibration | None],
) -> tuple[list[Float[np.ndarray, "height width"]], list[Confidence | None]]:
    """Do as `refined` does, and say how sure each mask is.

    What is compared is cut alone, of the whole and of the halves: a dense CRF would draw them all to the same edges.
    """
    every = [(each, method) for one, method in zip(maps, methods, strict=True) for each in (one.whole, *one.halves)]
    found = iter(refined([each for each, _ in every], [method for _, method in every], size, layers))
    heats: list[np.ndarray] = []
    sure: list[Confidence | None] = []
    for one, method, calibration in zip(maps, methods, calibrations, strict=True):
        heats.append(next(found))
        masks = [reaches(next(found), method.threshold) for _ in one.halves]
        sure.append(confidence_of(reaches(heats[-1], method.threshold), masks, calibration))
    return heats, sure


def one_by_one(image: Picture, masks: Sequence[np.ndarray], parameters: Sequence[CrfParameters]) -> list[np.ndarray]:
    """Fit masks to an image with `dense_crf`."""
    return [dense_crf(image, mask, one) for mask, one in zip(masks, parameters, strict=True)]


def cut(
    method: Method, heat: Float[np.ndarray, "height width"], image: Picture | None = None
) -> Bool[np.ndarray, "height width"]:
    """Cut refined heat by a method's threshold, fit the mask to the image, and tidy it.

    Raises `InvalidArgumentError` when the method has a CRF and there is no image.
    """
    return cuts([method], [heat], image)[0]


def cuts(
    methods: Sequence[Method],
    heats: Sequence[Float[np.ndarray, "height width"]],
    image: Picture | None = None,
    fit: Fit = one_by_one,
) -> list[Bool[np.ndarray, "height width"]]:
    """Do as `cut` does for several targets of one image; `fit` computes all their dense CRFs."""
    masks = [reaches(heat, method.threshold) for method, heat in zip(methods, heats, strict=True)]
    parameters = {number: method.crf for number, method in enumerate(methods) if method.crf is not None}
    if parameters:
        rough = [masks[number] for number in parameters]
        for number, mask in zip(parameters, fit(required(image), rough, [*parameters.values()]), strict=True):
            masks[number] = mask
    return [tidied(mask, method.minimum_area, fill_holes=method.fill_holes) for method, mask in zip(methods, masks, strict=True)]


def margin(method: Method, heat: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Return how far refined heat is above its method's threshold, as a fraction of its hottest pixel's.

    The threshold is how hot background is for this target, so margins of different targets and methods are in
    one unit, and one is at least 0 exactly where `cut` marks, before it fits and tidies. It is minus infinity without heat.
    """
    return (heat - np.asarray(level_of(heat, method.threshold), heat.dtype)) / heat.max()


def competitors_leakages(
    heats: Sequence[Float[np.ndarray, "height width"]], methods: Sequence[Method], rows: Sequence[Rows]
) -> list[float | None]:
    """Estimate how far the refined heat of targets that compete leaks to the others, see `ovam.core.masks.leakages`."""
    margins = [margin(method, heat) for method, heat in zip(methods, heats, strict=True)]
    return leakages(heats, margins, [one.chosen for one in rows])


def required(image: Picture | None) -> Picture:
    """Return the image. Raises `InvalidArgumentError` when there is none, although a CRF needs it."""
    if image is None:
        raise InvalidArgumentError("image", None, "the image of the trace: the method fits masks to its edges (or set crf=None)")
    return image


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


def _spread(
    heatmaps: Sequence[Float[Tensor, "_ _"]], methods: Sequence[Method], layers: Sequence[Layer]
) -> list[Float[Tensor, "_ _"]]:
    """Spread the heat of the targets whose method does; those on one grid with as many steps together."""
    spread = list(heatmaps)
    alike: dict[tuple[torch.Size, int], list[int]] = {}
    for number, (heat, method) in enumerate(zip(heatmaps, methods, strict=True)):
        if method.affinity_steps:
            alike.setdefault((heat.shape, method.affinity_steps), []).append(number)
    for (_, steps), numbers in alike.items():
        maps = affinity(torch.stack([heatmaps[number] for number in numbers]), layers, steps=steps)
        for number, heat in zip(numbers, maps, strict=True):
            spread[number] = heat
    return spread
