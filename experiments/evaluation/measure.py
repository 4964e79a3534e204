"""How the masks of many settings overlap with the truth of one image, computing once what they share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

import ovam
from experiments.evaluation.asking import Asked, Target
from experiments.evaluation.images import Made, Mask, Seconds, clock
from experiments.evaluation.maps import Parts, affinity_matrix, heat_of, parts_of, spread
from experiments.evaluation.settings import Grid, Setting, Settings
from ovam import Method
from ovam.attention import resize
from ovam.masks import stretched_and_weighed
from ovam.trace import Half

Counts = NDArray[np.int64]  # (thresholds, 2): pixels of the intersection and of the union
OTHERS = 0.01  # share of the image that other objects must cover to tell how much heat they get


@dataclass(frozen=True, eq=False)
class Heats:
    """The heat of an image under every setting, without its post-processing."""

    parts: Mapping[tuple[Asked, Half], Parts]
    matrix: Float[Tensor, "pixels pixels"] | None
    """The mean self-attention, if a setting has use for it."""
    grid: tuple[int, int]
    """Of the matrix's pixels."""
    made: dict[tuple[object, ...], Tensor] = field(default_factory=dict)
    """What was computed before."""

    @classmethod
    def of(cls, made: Made, targets: Mapping[Asked, Target], settings: Settings) -> "Heats":
        """Attend to everything that is asked for, once."""
        wanted = dict.fromkeys((setting.asked, setting.half) for setting in settings)
        parts = {
            (asked, half): parts_of(made.traces[half], targets[asked].embedding, targets[asked].rows) for asked, half in wanted
        }
        layers = made.trace.self_attention
        matrix = affinity_matrix(layers) if any(setting.method.refine != "none" for setting in settings) else None
        return cls(parts, matrix, layers[0].grid)

    def heat(self, setting: Setting) -> Float[Tensor, "height width"]:
        """The heat, spread if the method does."""
        method = setting.method
        steps = method.affinity_steps if method.refine in ("affinity", "both") else 0
        return self._spread((setting.asked, setting.half), method, steps)

    def received(self, method: Method) -> Float[Tensor, "height width"] | None:
        """The weights of Eq. 8, if the method has them."""
        if method.refine not in ("attention", "both") or self.matrix is None:
            return None
        return self.matrix.sum(dim=0).view(self.grid)

    def _spread(self, asked: tuple[Asked, Half], method: Method, steps: int) -> Float[Tensor, "height width"]:
        """The heat of a method's blocks and evaluations after some steps, from the step before."""
        name = (asked, str(method.blocks), str(method.evaluations), steps)
        if name not in self.made:
            if steps and self.matrix is not None:
                self.made[name] = spread(self._spread(asked, method, steps - 1), self.matrix, self.grid)
            else:
                self.made[name] = heat_of(self.parts[asked], method.blocks, method.evaluations)
        return self.made[name]


def measured(
    made: Made, targets: Mapping[Asked, Target], settings: Settings, *, sweep: bool
) -> tuple[dict[str, Counts], dict[str, list[float]], Seconds]:
    """Count every setting's mask against the truth, at its own threshold or at every one of its grid.

    Returns the counts; how hot the class, other objects and the ground are by what is asked for, if there are
    other objects; and the CPU time.
    """
    seconds: Seconds = {}
    with clock(seconds, "attribution"):
        heats = Heats.of(made, targets, settings)
        for setting in settings:
            heats.heat(setting)
    with clock(seconds, "masks"):
        found = {
            setting.key: counted(cuts(heats, setting, made, setting.grid if sweep and setting.tuned else None), made.truth)
            for setting in settings
        }
    return found, warmth(made, heats), seconds


def cuts(heats: Heats, setting: Setting, made: Made, grid: Grid | None) -> Bool[np.ndarray, "thresholds height width"]:
    """The masks of one setting, at every threshold of a grid or at its own."""
    method = setting.method
    heat = ready(method, heats.heat(setting), made.truth.shape, heats.received(method))
    if grid is None:
        return ovam.cut(method, heat, made.image)[None]
    masks = (heat >= torch.tensor(grid)[:, None, None] * heat.max()).numpy()
    if method.crf is None:
        return masks
    last: Mask | None = None
    for index, mask in enumerate(masks):
        if last is not None and np.array_equal(mask, last):
            masks[index] = masks[index - 1]
            continue
        last = mask.copy()
        masks[index] = ovam.dense_crf(made.image, mask, method.crf)
    return masks


def ready(
    method: Method,
    heat: Float[Tensor, "map_height map_width"],
    size: tuple[int, int],
    received: Float[Tensor, "attention_height attention_width"] | None,
) -> Float[Tensor, "height width"]:
    """Bring heat that is spread already to what a threshold cuts, as `ovam.refined` does."""
    resized = resize(heat[None], size)[0]
    return stretched_and_weighed(resized, method.rule(), attention=received, alpha=method.alpha, sign=method.sign)


def counted(masks: Bool[np.ndarray, "thresholds height width"], truth: Mask) -> Counts:
    """Intersection and union of masks with the truth."""
    return np.stack([(masks & truth).sum(axis=(1, 2)), (masks | truth).sum(axis=(1, 2))], axis=1)


def warmth(made: Made, heats: Heats) -> dict[str, list[float]]:
    """Mean heat on the class, on other objects and on the ground, by what is asked for."""
    others = (made.labels > 0) & ~made.truth
    if made.case.group != "generated" or others.mean() < OTHERS or not (made.labels == 0).any():
        return {}
    regions = [torch.from_numpy(region) for region in (made.truth, others, made.labels == 0)]
    found: dict[str, list[float]] = {}
    for (asked, half), parts in heats.parts.items():
        if half == "conditional":
            heat = resize(heat_of(parts)[None], made.truth.shape)[0]
            found[asked] = [float(heat[region].mean()) for region in regions]
    return found


def as_json(counts: Mapping[str, Counts]) -> dict[str, Any]:
    """Counts as they are written."""
    return {key: count.tolist() for key, count in counts.items()}
