"""The published methods as settings: everything that decides what mask a target gets, as data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Literal, get_args

from ovam.crf import CrfParameters
from ovam.errors import InvalidArgumentError
from ovam.heatmaps import Reduction
from ovam.masks import LESS, MORE
from ovam.refine import MOST_STEPS
from ovam.selection import Blocks, Indices
from ovam.text import Padding
from ovam.thresholds import Absolute, Normalize, Otsu, ShareOfMaximum, Threshold

Refine = Literal["none", "attention", "affinity", "both"]
Cutting = Literal["share", "absolute", "otsu"]

ALL_BLOCKS: Final[list[str | int]] = ["."]
"""All blocks, said outright: a dot is in the path of each."""

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

    @property
    def weighs(self) -> bool:
        """Whether heat is weighed by the attention that pixels receive."""
        return self.refine in ("attention", "both")

    @property
    def spreads(self) -> bool:
        """Whether heat is spread along the self-attention."""
        return self.refine in ("affinity", "both")

    @property
    def refines(self) -> bool:
        """Whether the threshold cuts anything but the heatmap itself."""
        return self.weighs or self.spreads or self.normalize == "minmax"

    def settings(self) -> dict[str, Any]:
        """Write the effective settings as JSON, from which `method` makes the same again, whatever it starts from.

        A range of indices is a dict of ``start``, ``stop`` and ``step``, ``{}`` for all; all blocks are
        ``["."]``; no CRF is ``False``.
        """
        match self.blocks:
            case None:
                blocks: list[str | int] = ALL_BLOCKS
            case str() | int():
                blocks = [self.blocks]
            case _:
                blocks = list(self.blocks)
        crf = False if self.crf is None else asdict(self.crf)
        indices = {"evaluations": _written(self.evaluations), "heads": _written(self.heads)}
        return {**vars(self), **indices, "blocks": blocks, "crf": crf}


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

SOURCES = {
    "ovam": "Marcos-Manchón et al., Open-Vocabulary Attention Maps with Token Optimization, CVPR 2024, arXiv 2403.14291",
    "daam": "Tang et al., What the DAAM: Interpreting Stable Diffusion Using Cross Attention, ACL 2023, arXiv 2210.04885",
    "attn2mask": "Yoshihashi et al., Attention as Annotation: Generating Images and Pseudo-masks, arXiv 2309.01369",
}
"""Where each method was published."""


def method(name: str, overrides: Mapping[str, Any] | None = None) -> Method:
    """Take a method by name and change some of its settings.

    A kind of targets may be left out of the name: "ovam" is "ovam-words". What `Method.settings` wrote are
    overrides, too. Another kind of threshold takes no normalisation over.

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
    _check_closed(changes)
    if changes.get("threshold", "share") != "share":
        changes.setdefault("normalize", "max")
    if changes.get("blocks") == ALL_BLOCKS:
        changes["blocks"] = None
    for field, read in (("evaluations", _read_indices), ("heads", _read_indices), ("crf", _read_crf)):
        if field in changes:
            changes[field] = read(field, changes[field])
    try:
        return replace(found, **changes)
    except TypeError as error:
        raise InvalidArgumentError("settings", changes, "values of the settings' types") from error


def _written(choice: Indices) -> Any:  # noqa: ANN401 - JSON
    """Write a choice of indices as JSON."""
    match choice:
        case None:
            return {}
        case slice():
            parts = {"start": choice.start, "stop": choice.stop, "step": choice.step}
            return {part: value for part, value in parts.items() if value is not None}
        case int() | float():
            return choice
        case _:
            return list(choice)


def _read_indices(field: str, choice: Any) -> Indices:  # noqa: ANN401 - JSON
    """Read what `_written` wrote."""
    if not isinstance(choice, Mapping):
        return choice
    if set(choice) - {"start", "stop", "step"}:
        raise InvalidArgumentError(field, choice, "start, stop and step")
    span = slice(choice.get("start"), choice.get("stop"), choice.get("step"))
    return None if span == slice(None) else span


def _read_crf(field: str, choice: Any) -> CrfParameters | None:  # noqa: ANN401 - JSON
    """Read the parameters of a CRF, its defaults (``True``), or that there is none."""
    match choice:
        case None | CrfParameters():
            return choice
        case bool():
            return CrfParameters() if choice else None
        case Mapping():
            try:
                return CrfParameters(**choice)
            except TypeError as error:
                raise InvalidArgumentError(field, choice, ", ".join(asdict(CrfParameters()))) from error
        case _:
            raise InvalidArgumentError(field, choice, "parameters, true or false")
