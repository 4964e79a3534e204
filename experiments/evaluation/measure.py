"""How the masks of many settings overlap with the truth of one image."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from experiments.evaluation.backends.backend import Answers, Backend, Learned
from experiments.evaluation.settings import LATE, PLAIN, Setting, Settings
from experiments.evaluation.subjects import Mask, Picture, Seconds, Subject, clock
from experiments.evaluation.targets import WORDS, WORDS_LATE, TargetName
from ovam import dense_crf
from ovam.core.crf import CrfParameters
from ovam.core.thresholds import reaches

Counts = NDArray[np.int64]  # (thresholds, 2): pixels of the intersection and of the union
Fits = dict[tuple[bytes, CrfParameters], Mask]
"""The masks of an image as its dense CRF has them, by what was cut."""
OTHERS = 0.01  # fraction of the image that other things must cover to tell how much heat they get
SECOND_ANNOTATOR = "second annotator"
"""The key of the counts of a second annotator's mask."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """What was measured on an image."""

    counts: Mapping[str, Counts]
    """By setting."""
    heat: Mapping[str, list[float]]
    """Mean heat on the class, on other things and on the ground, by target, if there are other things."""
    seconds: Seconds


def measured(backend: Backend, subject: Subject, settings: Settings, learned: Learned, *, sweep: bool) -> Measurement:
    """Count every setting's mask against the truth, at its own threshold or at every one of its grid."""
    seconds: Seconds = {}
    swept = [one for one in settings if sweep and one.tuned]
    warm = plain(settings) if shows_others(subject) else {}
    with clock(seconds, "attribution", backend.now):
        masks = [one for one in settings if not (sweep and one.tuned)]
        answers = backend.answers(subject, learned, masks=masks, heats=[*swept, *warm.values()])
    fits: Fits = {}
    with clock(seconds, "masks", backend.now):
        cuts = {one.key: masks_of(answers, one, subject.image, fits, sweep=sweep) for one in settings}
        counts = {key: counted(several, subject.truth.mask) for key, several in cuts.items()}
    if subject.truth.second is not None:
        counts[SECOND_ANNOTATOR] = counted(subject.truth.second[None], subject.truth.mask)
    return Measurement(counts, {name: warmth(subject, answers.heat(one)) for name, one in warm.items()}, seconds)


def masks_of(
    answers: Answers, setting: Setting, image: Picture, fits: Fits, *, sweep: bool
) -> Bool[np.ndarray, "thresholds height width"]:
    """The masks of one setting, at its own threshold or at every one of its grid."""
    swept = sweep and setting.tuned
    return at_every_threshold(setting, answers.heat(setting), image, fits) if swept else answers.mask(setting)[None]


def at_every_threshold(
    setting: Setting, heat: Float[np.ndarray, "height width"], image: Picture, fits: Fits
) -> Bool[np.ndarray, "thresholds height width"]:
    """Cut heat at every threshold of a setting's grid; what was cut alike before is not fitted to the image again."""
    masks = np.stack([reaches(heat, share) for share in setting.shares])
    parameters = setting.method.crf
    if parameters is None:
        return masks
    for index, mask in enumerate(masks):
        cut = mask.tobytes(), parameters
        if cut not in fits:
            fits[cut] = dense_crf(image, mask, parameters)
        masks[index] = fits[cut]
    return masks


def counted(masks: Bool[np.ndarray, "thresholds height width"], truth: Mask) -> Counts:
    """Intersection and union of masks with the truth."""
    return np.stack([(masks & truth).sum(axis=(1, 2)), (masks | truth).sum(axis=(1, 2))], axis=1)


def plain(settings: Settings) -> dict[TargetName, Setting]:
    """Everything that settings look for, without post-processing; words also in the second half of the evaluations."""
    found = {one.target: Setting("plain", one.target, PLAIN) for one in settings}
    late = {WORDS_LATE: Setting("plain, late", WORDS, replace(PLAIN, evaluations=LATE))} if WORDS in found else {}
    return found | late


def shows_others(subject: Subject) -> bool:
    """Whether there are other things and a ground beside the class."""
    others = (subject.truth.labels > 0) & ~subject.truth.mask
    return not subject.case.mask and bool(others.mean() >= OTHERS) and bool((subject.truth.labels == 0).any())


def warmth(subject: Subject, heat: Float[np.ndarray, "height width"]) -> list[float]:
    """Mean heat on the class, on other things and on the ground."""
    labels, mask = subject.truth.labels, subject.truth.mask
    return [float(heat[region].mean()) for region in (mask, (labels > 0) & ~mask, labels == 0)]


def as_json(counts: Mapping[str, Counts]) -> dict[str, Any]:
    """Counts as they are written."""
    return {key: count.tolist() for key, count in counts.items()}
