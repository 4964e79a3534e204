"""Every choice between a trace and a mask, as data; and the published methods as such data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Final, Literal

from annotated_types import Interval

from ovam.core.crf import CrfParameters
from ovam.core.selection import Blocks, Positions, written
from ovam.core.settings import Checked
from ovam.core.thresholds import Absolute, Share, Threshold
from ovam.errors import InvalidArgumentError, UnknownMethodError

Padding = Literal["none", "max_length"]
Reduction = Literal["mean", "sum"]
Sign = Literal[1, -1]
Softmax = Literal["each", "together"]
Aggregation = Literal["equal", "automatic"]
TargetKind = Literal["words", "tokens"]
MethodName = Literal["ovam", "daam", "attn2mask", "grounded-diffusion", "datasetdm", "datasetdm-published"]
Attention = Literal["cross", "concept", "joint", "text"]
"""Whose attention a heatmap shows. `cross`: that of pixels to the text, of a UNet, PixArt or Sana. Of SD3 and FLUX, whose pixels
and text attend together: `concept`, any text's rows run beside the prompt (ConceptAttention); `joint`, pixels to the prompt's own
words, among all keys; `text`, the same among the words alone."""

MOST_AFFINITY_STEPS: Final = 4
Weight = Annotated[float, Interval(ge=0, le=1)]
Steps = Annotated[int, Interval(ge=1, le=MOST_AFFINITY_STEPS)]


@dataclass(frozen=True)
class NoRefinement(Checked):
    """The threshold cuts the heatmap as it is."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True)
class ByAttention(Checked):
    """Weight heat by the self-attention that each pixel receives, rescaled to [alpha, 1] (Eq. 8)."""

    alpha: Weight = 0.85
    """Least weight."""
    sign: Sign = 1
    """1: pixels that receive much attention keep more heat; -1: less."""
    kind: Literal["attention"] = "attention"


@dataclass(frozen=True)
class ByAffinity(Checked):
    """Spread heat along the self-attention: every pixel gets the mean heat of the pixels that it attends to."""

    steps: Steps = 1
    """How many times."""
    kind: Literal["affinity"] = "affinity"


@dataclass(frozen=True)
class ByBoth(Checked):
    """Spread heat along the self-attention, then weight it by the attention received."""

    steps: Steps = 1
    """How many times heat is spread."""
    alpha: Weight = 0.85
    """Least weight."""
    sign: Sign = 1
    """1: pixels that receive much attention keep more heat; -1: less."""
    kind: Literal["both"] = "both"


Refinement = NoRefinement | ByAttention | ByAffinity | ByBoth


@dataclass(frozen=True)
class Method(Checked):
    """Every choice between a trace and a mask.

    >>> from dataclasses import replace
    >>> strict = replace(ovam.METHODS["daam"].words, evaluations=0.5, minimum_area=20)
    >>> strict.threshold
    Share(tau=0.4, normalize='max', kind='share')
    """

    blocks: Blocks = "all"
    """Cross-attention blocks: `"all"`, or by a part of their name (`"up"`, `"down_blocks.1"`) or their resolution (16)."""
    evaluations: Positions = "all"
    """UNet evaluations: `"all"`, a position from 0 (negative: from the end), a fraction of the way (0.5: the middle one), a
    range or a list."""
    heads: Positions = "all"
    """Heads of every block, selected as evaluations are."""
    attention: Attention | None = None
    """Whose attention, of those that the model's family has; `null`: the family's first, `cross` or `concept`."""
    padding: Padding = "none"
    """Softmax over the prompt's own tokens (`none`), or over the encoder's full length, as during generation (`max_length`)."""
    reduction: Reduction = "mean"
    """Of blocks, evaluations and heads (Eq. 5): with `mean` heat lies in [0, 1]."""
    refine: Refinement = field(default_factory=NoRefinement)
    """What self-attention does to the heat before the threshold."""
    threshold: Threshold = field(default_factory=Share)
    """Which heat counts as inside (Eq. 9)."""
    crf: CrfParameters | None = None
    """Fit the mask to the image's edges with a dense CRF; `null`: do not."""
    minimum_area: Annotated[int, Interval(ge=0, le=2**30)] = 0
    """Drop connected regions of fewer pixels."""
    fill_holes: bool = False
    """Fill the holes of the mask."""
    network: str | None = None
    """The trained network that gives the heat, a probability, instead of attention; `null`: none. By its name among those of
    the model."""
    aggregation: Aggregation = "equal"
    """How much each block and head weighs: `equal`, as published; or `automatic`, by its part in what the image's own
    generation wrote, after the idea of GoCA. The latter needs a replay, and a model with cross-attention."""

    def __post_init__(self) -> None:
        """Write selections in their one form, then raise `InvalidArgumentError` for what is not allowed."""
        for name in ("blocks", "evaluations", "heads"):
            object.__setattr__(self, name, written(getattr(self, name)))
        super().__post_init__()
        if self.network is not None and not isinstance(self.refine, NoRefinement):
            raise InvalidArgumentError("refine", self.refine.kind, "'none' with a network, whose heat is no attention")
        if self.network is not None and self.aggregation != "equal":
            raise InvalidArgumentError("aggregation", self.aggregation, "'equal' with a network, whose heat is no attention")

    @property
    def affinity_steps(self) -> int:
        """How many times heat is spread along the self-attention; 0: not at all."""
        return self.refine.steps if isinstance(self.refine, ByAffinity | ByBoth) else 0

    @property
    def weights(self) -> tuple[float, Sign] | None:
        """Least weight and sign of the attention received; `None` where it plays no part."""
        return (self.refine.alpha, self.refine.sign) if isinstance(self.refine, ByAttention | ByBoth) else None

    @property
    def needs_self_attention(self) -> bool:
        """Whether the method asks for a trace with self-attention."""
        return not isinstance(self.refine, NoRefinement)


@dataclass(frozen=True)
class PublishedMethod:
    """A published method: its settings for words and for learned tokens."""

    source: str
    """Where it was published."""
    words: Method
    tokens: Method

    def of(self, kind: TargetKind) -> Method:
        """Return the settings for one kind of target."""
        return self.words if kind == "words" else self.tokens


class Methods(Mapping[str, PublishedMethod]):
    """The published methods by name. An unknown name raises `UnknownMethodError`, which suggests a known one."""

    def __init__(self, methods: Mapping[str, PublishedMethod]) -> None:
        self._methods: dict[str, PublishedMethod] = dict(methods)

    def __getitem__(self, name: str) -> PublishedMethod:
        """Return a method. Raises `UnknownMethodError`."""
        if name not in self._methods:
            spelled = str(name).lower()
            close = [known for known in self._methods if spelled.startswith(known)]
            raise UnknownMethodError(name, [*self._methods], close or get_close_matches(spelled, self._methods, n=1))
        return self._methods[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._methods)

    def __len__(self) -> int:
        """Count the methods."""
        return len(self._methods)

    def __contains__(self, name: object) -> bool:
        """Whether a method has this name."""
        return name in self._methods


def attn2mask(beta: float) -> Method:
    """Return Attn2Mask's settings: its background is 1 - h - beta, so inside is h >= (1 - beta) / 2 of the min-max map."""
    return Method(evaluations=0.5, threshold=Share((1 - beta) / 2, "minmax"), crf=CrfParameters())


def trained(network: str) -> Method:
    """Return the settings of a method whose network gives a probability, from what the UNet's last evaluation gave out."""
    return Method(evaluations=-1, threshold=Absolute(0.5), network=network)


METHODS: Final = Methods({
    "ovam": PublishedMethod(
        "Marcos-Manchón et al., Open-Vocabulary Attention Maps with Token Optimization, CVPR 2024, arXiv 2403.14291",
        words=Method(refine=ByAttention(0.85), threshold=Share(0.4), crf=CrfParameters()),
        tokens=Method(refine=ByAttention(0.95), threshold=Share(0.8), crf=CrfParameters()),
    ),
    "daam": PublishedMethod(
        "Tang et al., What the DAAM: Interpreting Stable Diffusion Using Cross Attention, ACL 2023, arXiv 2210.04885",
        words=Method(threshold=Share(0.4)),
        tokens=Method(threshold=Share(0.8)),
    ),
    "attn2mask": PublishedMethod(
        "Yoshihashi et al., Attention as Annotation: Generating Images and Pseudo-masks, arXiv 2309.01369",
        words=attn2mask(beta=0.2),
        tokens=attn2mask(beta=-0.2),
    ),
    "grounded-diffusion": PublishedMethod(
        "Li et al., Open-vocabulary Object Segmentation with Diffusion Models, ICCV 2023, arXiv 2301.05221",
        words=trained("grounded-diffusion"),
        tokens=trained("grounded-diffusion"),
    ),
    "datasetdm": PublishedMethod(
        "Wu et al., DatasetDM: Synthesizing Data with Perception Annotations, NeurIPS 2023, arXiv 2308.06160",
        words=trained("datasetdm"),
        tokens=trained("datasetdm"),
    ),
    "datasetdm-published": PublishedMethod(
        "DatasetDM as its code trains it: the text names the same class for every image",
        words=trained("datasetdm-published"),
        tokens=trained("datasetdm-published"),
    ),
})  # fmt: skip
"""The settings of the paper's tables, by method and kind of target."""
