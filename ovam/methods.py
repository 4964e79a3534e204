"""The published methods as settings of the same functions, and how settings become a mask."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ovam.crf import CrfParameters, dense_crf
from ovam.errors import InvalidArgumentError
from ovam.heatmaps import Reduction, resize
from ovam.masks import LESS, MORE, binarize, fill_holes, remove_small
from ovam.refine import MOST_STEPS, Layer, affinity, attention_received
from ovam.selection import Blocks, Indices
from ovam.text import Padding
from ovam.thresholds import Absolute, Normalize, Otsu, ShareOfMaximum, Threshold

Refine = Literal["none", "attention", "affinity", "both"]
Cutting = Literal["share", "absolute", "otsu"]

_CLOSED = {"normalize": Normalize, "padding": Padding, "reduction": Reduction, "threshold": Cutting, "refine": Refine}


@dataclass(frozen=True)
class Method:
    """Everything that decides what mask a target gets; all of it can be written as JSON."""

    name: str
    tau: float = 0.4
    """Share of the hottest pixel that counts as inside (Eq. 9); for ``threshold="absolute"`` the level."""
    alpha: float = 0.85
    """Lower end of the self-attention weights (Eq. 8), where ``refine`` has them."""
    normalize: Normalize = "max"
    blocks: Blocks = None
    """Which blocks of the trace are used, see `ovam.selection`; ``None``: all."""
    evaluations: Indices = None
    """Which evaluations of the trace are used; ``None``: all."""
    heads: Indices = None
    """Which heads of every block are used; ``None``: all."""
    crf: CrfParameters | None = None
    """What `ovam.dense_crf` is run with; ``None``: not at all."""
    padding: Padding = "none"
    reduction: Reduction = "mean"
    threshold: Cutting = "share"
    refine: Refine = "none"
    sign: int = MORE
    """Whether much attention received means more heat, 1, or less, -1."""
    affinity_steps: int = 1
    """How often heat is spread by the self-attention, where ``refine`` does."""
    minimum_area: int = 0
    """Regions of fewer pixels are dropped."""
    fill_holes: bool = False

    def __post_init__(self) -> None:
        """Refuse what lies outside, whichever setting reads it."""
        _check_closed(vars(self))
        for field, low, high in (("alpha", 0, 1), ("affinity_steps", 1, MOST_STEPS), ("minimum_area", 0, 1 << 30)):
            if not low <= getattr(self, field) <= high:
                raise InvalidArgumentError(field, getattr(self, field), f"{low} to {high}")
        if self.sign not in (MORE, LESS):
            raise InvalidArgumentError("sign", self.sign, f"{MORE} or {LESS}")
        if self.threshold != "share" and self.normalize != "max":
            raise InvalidArgumentError("normalize", self.normalize, f"'max' beside threshold={self.threshold!r}")
        self.rule()

    def rule(self) -> Threshold:
        """Make the threshold that the method cuts with."""
        match self.threshold:
            case "share":
                return ShareOfMaximum(self.tau, self.normalize)
            case "absolute":
                return Absolute(self.tau)
            case "otsu":
                return Otsu()

    def settings(self) -> dict[str, Any]:
        """Write the effective settings as a plain dict, from which `method` makes the same again."""
        return asdict(self)


def _check_closed(settings: Mapping[str, Any]) -> None:
    """Refuse a setting that is none of a closed set of words."""
    for field, kind in _CLOSED.items():
        if field in settings and settings[field] not in get_args(kind):
            raise InvalidArgumentError(field, settings[field], f"one of {get_args(kind)}")


def _attn2mask(name: str, beta: float) -> Method:
    """Attn2Mask's background is 1 - h - beta: inside is h > (1 - beta) / 2 of the min-max map of the middle evaluation."""
    return Method(name, tau=(1 - beta) / 2, normalize="minmax", evaluations=0.5, crf=CrfParameters())


METHODS = (
    Method("ovam-words", tau=0.4, alpha=0.85, refine="attention", crf=CrfParameters()),
    Method("ovam-optimized", tau=0.8, alpha=0.95, refine="attention", crf=CrfParameters()),
    Method("daam-words", tau=0.4),
    Method("daam-optimized", tau=0.8),
    _attn2mask("attn2mask-words", beta=0.2),
    _attn2mask("attn2mask-optimized", beta=-0.2),
)
"""The settings of the paper's tables; Attn2Mask looks at evaluation 50 of the 100 of its generations."""


def method(name: str, overrides: Mapping[str, Any] | None = None) -> Method:
    """Take a method by name and change some of its settings.

    A kind of targets may be left out of the name: "ovam" is "ovam-words". ``crf`` may be a dict of
    `CrfParameters`, so that what `Method.settings` wrote is an override, too.

    Raises `InvalidArgumentError` for an unknown method, an unknown setting or a value outside.
    """
    found = next((one for one in METHODS if one.name in (name, f"{name}-words")), None)
    if found is None:
        raise InvalidArgumentError("method", name, ", ".join(one.name for one in METHODS))
    changes = dict(overrides or {})
    known = {field.name for field in fields(Method)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise InvalidArgumentError("settings", unknown, ", ".join(sorted(known)))
    if isinstance(changes.get("crf"), Mapping):
        try:
            changes["crf"] = CrfParameters(**changes["crf"])
        except TypeError as error:
            raise InvalidArgumentError("crf", changes["crf"], ", ".join(asdict(CrfParameters()))) from error
    _check_closed(changes)
    try:
        return replace(found, **changes)
    except TypeError as error:
        raise InvalidArgumentError("settings", changes, "values of the settings' types") from error


def mask_of(
    chosen: Method,
    heatmap: Float[Tensor, "map_height map_width"],
    image: UInt8[np.ndarray, "height width 3"],
    layers: Sequence[Layer] = (),
) -> Bool[np.ndarray, "height width"]:
    """Make a target's mask at the size of its image, with every setting that comes after the heatmap.

    In turn: affinity, resizing, weights, threshold, CRF, small regions, holes. ``layers`` are the captured
    self-attentions; only methods that refine by them need any.

    Raises `SelectionError` when they are missing, and what the single functions raise.
    """
    heat, received = heatmap, None
    with torch.no_grad():
        if chosen.refine in ("affinity", "both"):
            heat = affinity(heat[None], layers, steps=chosen.affinity_steps)[0]
        if chosen.refine in ("attention", "both"):
            received = attention_received(layers)
    return cut(chosen, heat, image, received)


def cut(
    chosen: Method,
    heat: Float[Tensor, "map_height map_width"],
    image: UInt8[np.ndarray, "height width 3"],
    received: Float[Tensor, "attention_height attention_width"] | None = None,
) -> Bool[np.ndarray, "height width"]:
    """Make a mask of heat that affinity has spread already: what `mask_of` does from the resizing on.

    ``received`` is the image's self-attention map, see `ovam.attention_received`; ``None``: no weights.
    """
    with torch.no_grad():
        resized = resize(heat[None], (image.shape[0], image.shape[1]))[0]
        mask = binarize(resized, chosen.rule(), attention=received, alpha=chosen.alpha, sign=chosen.sign)
    if chosen.crf is not None:
        mask = torch.from_numpy(dense_crf(image, mask.cpu().numpy(), chosen.crf))
    if chosen.minimum_area:
        mask = remove_small(mask, chosen.minimum_area)
    if chosen.fill_holes:
        mask = fill_holes(mask)
    return mask.cpu().numpy()
