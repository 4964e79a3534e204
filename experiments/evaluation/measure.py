"""How the masks of many settings overlap with the truth of one image."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

import ovam
from experiments.evaluation.images import Made, Mask, Picture, Seconds, clock
from experiments.evaluation.settings import PLAIN, Setting, Settings
from experiments.evaluation.studios.studio import Heats, Learned, Studio
from ovam import CrfParameters

Counts = NDArray[np.int64]  # (thresholds, 2): pixels of the intersection and of the union
Fits = dict[tuple[bytes, CrfParameters], Mask]
"""The masks of an image as its dense CRF has them, by what was cut."""
OTHERS = 0.01  # share of the image that other objects must cover to tell how much heat they get


def measured(
    studio: Studio, made: Made, settings: Settings, learned: Learned, *, sweep: bool
) -> tuple[dict[str, Counts], dict[str, list[float]], Seconds]:
    """Count every setting's mask against the truth, at its own threshold or at every one of its grid.

    Returns the counts; how hot the class, other objects and the ground are by what is asked for, if there are
    other objects; and the time.
    """
    seconds: Seconds = {}
    swept = [one for one in settings if sweep and one.tuned]
    warm = plain(settings) if shows_others(made) else []
    with clock(seconds, "attribution", studio.now):
        masks = [one for one in settings if not (sweep and one.tuned)]
        heats = studio.look(made, learned, masks=masks, heats=[*swept, *warm])
    fits: Fits = {}
    with clock(seconds, "masks", studio.now):
        found = {one.key: counted(cuts(heats, one, made.image, fits, sweep=sweep), made.truth) for one in settings}
    return found, {one.asked: warmth(made, heats.heat(one)) for one in warm}, seconds


def cuts(
    heats: Heats, setting: Setting, image: Picture, fits: Fits, *, sweep: bool
) -> Bool[np.ndarray, "thresholds height width"]:
    """The masks of one setting, at its own threshold or at every one of its grid."""
    return at_every_threshold(setting, heats.heat(setting), image, fits) if sweep and setting.tuned else heats.mask(setting)[None]


def at_every_threshold(
    setting: Setting, heat: Float[Tensor, "height width"], image: Picture, fits: Fits
) -> Bool[np.ndarray, "thresholds height width"]:
    """Cut heat at every threshold of a setting's grid; what was cut alike before is not fitted to the image again."""
    masks = (heat >= torch.tensor(setting.grid)[:, None, None] * heat.max()).numpy()
    parameters = setting.method.crf
    if parameters is None:
        return masks
    for index, mask in enumerate(masks):
        cut = mask.tobytes(), parameters
        if cut not in fits:
            fits[cut] = ovam.dense_crf(image, mask, parameters)
        masks[index] = fits[cut]
    return masks


def counted(masks: Bool[np.ndarray, "thresholds height width"], truth: Mask) -> Counts:
    """Intersection and union of masks with the truth."""
    return np.stack([(masks & truth).sum(axis=(1, 2)), (masks | truth).sum(axis=(1, 2))], axis=1)


def plain(settings: Settings) -> list[Setting]:
    """Everything that settings ask the conditional half for, without post-processing."""
    asked = dict.fromkeys(one.asked for one in settings if one.half == "conditional")
    return [Setting("plain", one, PLAIN) for one in asked]


def shows_others(made: Made) -> bool:
    """Whether the model drew other objects and a ground beside what is looked for."""
    others = (made.labels > 0) & ~made.truth
    return made.case.group == "generated" and bool(others.mean() >= OTHERS) and bool((made.labels == 0).any())


def warmth(made: Made, heat: Float[Tensor, "height width"]) -> list[float]:
    """Mean heat on the class, on other objects and on the ground."""
    others = (made.labels > 0) & ~made.truth
    return [float(heat[torch.from_numpy(region)].mean()) for region in (made.truth, others, made.labels == 0)]


def as_json(counts: Mapping[str, Counts]) -> dict[str, Any]:
    """Counts as they are written."""
    return {key: count.tolist() for key, count in counts.items()}
