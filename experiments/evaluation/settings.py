"""What is compared: what is looked for, and how its heat becomes a mask. Every row of every table is one of these."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from experiments.evaluation.recipes import COUNTS, FINE, ONE_IMAGE, ONE_SCENE, PUBLISHED_RECIPE, REAL_RECIPES, RECIPES, SCENES
from experiments.evaluation.targets import AGAINST_ALL, AGAINST_SCENE, OWN_PROMPT, PADDED, TOGETHER, WORDINGS, WORDS, TargetName
from ovam import METHODS, Method
from ovam.core.crf import CrfParameters
from ovam.core.methods import ByAffinity, ByAttention, ByBoth, NoRefinement
from ovam.core.selection import Positions, Span
from ovam.core.thresholds import Absolute, Normalize, Share

Grid = tuple[float, ...]
GRID: Grid = tuple(float(tau) for tau in np.arange(0.04, 0.99, 0.02).round(2))
"""The thresholds that are tried."""
CRF_GRID: Grid = GRID[11:42:5]
"""Those that are tried where every one of them costs a CRF: 0.26, 0.36 ... 0.86."""
PUBLISHED = ("daam", "attn2mask", "ovam")
TRAINED = ("datasetdm-published", "datasetdm", "grounded-diffusion")
"""Methods with networks of their own, whose thresholds are those of a probability."""


@dataclass(frozen=True)
class Setting:
    """A method and what it looks for."""

    name: str
    target: TargetName
    method: Method
    tuned: bool = True
    """Whether its threshold is tuned, or as published."""

    @cached_property
    def key(self) -> str:
        """Its name in results."""
        return key(self.name, self.target)

    @property
    def share(self) -> Share:
        """Its threshold: every method here that is tuned cuts at a share of the hottest pixel."""
        if not isinstance(self.method.threshold, Share):
            raise TypeError(self.method.threshold)
        return self.method.threshold

    @property
    def grid(self) -> Grid:
        """The thresholds to try."""
        if not self.tuned:
            return (self.method.threshold.level if isinstance(self.method.threshold, Absolute) else self.share.tau,)
        return GRID if self.method.crf is None else CRF_GRID

    @property
    def shares(self) -> tuple[Share, ...]:
        """Its thresholds at every point of the grid."""
        return shares(self.grid, self.share.normalize)

    def at(self, tau: float) -> "Setting":
        """The same with another threshold."""
        if isinstance(self.method.threshold, Absolute):
            return replace(self, method=replace(self.method, threshold=Absolute(tau)))
        return replace(self, method=replace(self.method, threshold=replace(self.share, tau=tau)))

    @cached_property
    def heat(self) -> Method:
        """What its heat depends on: its method without what comes after."""
        if self.method.network is not None:
            return replace(self.method, crf=None, minimum_area=0, fill_holes=False)
        return Method(
            blocks=self.method.blocks,
            evaluations=self.method.evaluations,
            padding="max_length" if self.target == PADDED else "none",
            refine=self.method.refine,
            threshold=Share(normalize=self.share.normalize),
        )


Settings = Sequence[Setting]
_JSON = TypeAdapter(Method)


def as_json(method: Method) -> dict[str, Any]:
    """A method as requests and cards have it."""
    return _JSON.dump_python(method, mode="json")


@cache
def shares(grid: Grid, normalize: Normalize) -> tuple[Share, ...]:
    """Thresholds at every point of a grid."""
    return tuple(Share(tau, normalize) for tau in grid)


def key(name: str, target: TargetName) -> str:
    """The name of a row and of what is looked for, as one."""
    return f"{name} | {target}"


def pair(name: str, words: Method, tokens: Method | None = None, *, tuned: bool = True) -> tuple[Setting, Setting]:
    """A method with words and with learned tokens."""
    return Setting(name, WORDS, words, tuned=tuned), Setting(name, PUBLISHED_RECIPE, tokens or words, tuned=tuned)


PLAIN = Method()
MIN_MAX = Method(threshold=Share(normalize="minmax"))
AFFINITY = replace(MIN_MAX, refine=ByAffinity())
FULL = replace(AFFINITY, crf=CrfParameters())
OVAM = METHODS["ovam"]


def published() -> Iterator[Setting]:
    """Tables 1 and 2: the published methods, their thresholds as published and tuned here."""
    for name in PUBLISHED:
        method = METHODS[name]
        yield from pair(name, method.words, method.tokens)
        yield from pair(f"{name}, published threshold", method.words, method.tokens, tuned=False)
    yield from trained()


def trained() -> Iterator[Setting]:
    """Tables 1 and 2: the methods with networks of their own."""
    for name in TRAINED:
        yield from pair(name, METHODS[name].words, METHODS[name].tokens, tuned=False)


def post_processing() -> Iterator[Setting]:
    """Table 4, where "daam" is without and "ovam" with both, and the other sign of Eq. 8."""
    bare = [replace(method, crf=None) for method in (OVAM.words, OVAM.tokens)]
    yield from pair("self-attention", *bare)
    yield from pair("dCRF", *(replace(method, refine=NoRefinement()) for method in (OVAM.words, OVAM.tokens)))
    yield from pair("self-attention, other sign", *(replace(method, refine=other_sign(method)) for method in bare))


def other_sign(method: Method) -> ByAttention:
    """A method's weights with the other sign of Eq. 8."""
    alpha, _ = method.weights or (0.85, 1)
    return ByAttention(alpha, -1)


def grids_of(resolutions: Sequence[int]) -> list[tuple[int, ...]]:
    """The combinations of resolutions of Table 5, all of them left out."""
    return [several for count in range(1, len(resolutions)) for several in combinations(resolutions, count)]


def named_blocks(grids: Sequence[int]) -> str:
    """What a row of Table 5 is called."""
    return f"blocks {' + '.join(map(str, grids))}"


def at_resolutions(resolutions: Sequence[int]) -> Iterator[Setting]:
    """Table 5, where "ovam" has all blocks."""
    for grids in grids_of(resolutions):
        yield from pair(named_blocks(grids), replace(OVAM.words, blocks=grids), replace(OVAM.tokens, blocks=grids))


Selection = Literal["single", "first", "last"]
POINTS: dict[Selection, tuple[int, ...]] = {
    "single": (0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 29),
    "first": (1, 3, 6, 10, 15, 20, 25, 30),
    "last": (1, 3, 6, 10, 15, 20, 25, 30),
}
OF = 30
"""How many evaluations the points are of."""


def selected(selection: Selection, point: int, evaluations: int = OF) -> Positions:
    """The evaluations of a point of Fig. 6, at the same fraction of however many there are."""
    if selection == "single":
        return point * evaluations // OF
    count = max(1, round(point * evaluations / OF))
    return Span(stop=count) if selection == "first" else Span(start=-count)


def over_time(evaluations: int = OF) -> Iterator[Setting]:
    """Fig. 6, without post-processing."""
    for selection, points in POINTS.items():
        for point in points:
            yield from pair(f"{selection} {point}", replace(PLAIN, evaluations=selected(selection, point, evaluations)))


def refined() -> Iterator[Setting]:
    """Beyond the paper: min-max, and heat spread along the self-attention."""
    yield from pair("min-max", MIN_MAX)
    for steps in (1, 2):
        yield from pair(f"affinity {steps}", replace(AFFINITY, refine=ByAffinity(steps)))
    yield from pair("affinity 1, share of the maximum", replace(AFFINITY, threshold=Share()))
    yield from pair("affinity 1 + dCRF", FULL)
    yield from pair("attention + affinity 1 + dCRF", replace(FULL, refine=ByBoth()))


def other_targets() -> Iterator[Setting]:
    """Beyond the paper: other wordings, targets that compete, and tokens learned in other ways."""
    for target in (*WORDINGS, *TOGETHER, *RECIPES):
        if target not in (WORDS, PUBLISHED_RECIPE):
            yield Setting("min-max", target, MIN_MAX)
            yield Setting("affinity 1", target, AFFINITY)
        if target in (*TOGETHER, COUNTS[1], COUNTS[8], ONE_SCENE, SCENES):
            yield Setting("affinity 1 + dCRF", target, FULL)
    for target in (AGAINST_SCENE, PADDED, OWN_PROMPT, ONE_IMAGE):
        yield Setting("daam", target, PLAIN)
    yield Setting("ovam", AGAINST_SCENE, OVAM.words)


LATE = Span(start=0.5)
"""The second half of the evaluations: the first ones see little but noise."""
TARGETS_THAT_PART = (WORDS, PUBLISHED_RECIPE, AGAINST_ALL, FINE)


def places(resolutions: Sequence[int]) -> dict[str, Method]:
    """Blocks and evaluations that may tell things apart better than all do, by name."""
    finest = resolutions[:1]
    found = {
        "late": replace(PLAIN, evaluations=LATE),
        "finest": replace(PLAIN, blocks=tuple(finest)),
        "finest, late": replace(PLAIN, blocks=tuple(finest), evaluations=LATE),
    }
    if len(resolutions) > 2:
        found["not the coarsest, late"] = replace(PLAIN, blocks=tuple(resolutions[:-1]), evaluations=LATE)
    return found


def where_things_part(resolutions: Sequence[int]) -> Iterator[Setting]:
    """Beyond the paper: blocks and evaluations that tell things apart."""
    for name, place in places(resolutions).items():
        for target in TARGETS_THAT_PART:
            for way, method in (("min-max", MIN_MAX), ("affinity 1", AFFINITY)):
                yield Setting(f"{way}, {name}", target, replace(method, blocks=place.blocks, evaluations=place.evaluations))
    yield Setting("affinity 1 + dCRF, late", WORDS, replace(FULL, evaluations=LATE))


def generated(resolutions: Sequence[int]) -> tuple[Setting, ...]:
    """Everything that is measured on the bundled model's images."""
    return (*of_any_model(resolutions, OF), *where_things_part(resolutions))


def of_any_model(resolutions: Sequence[int], evaluations: int | None) -> tuple[Setting, ...]:
    """What is measured on images of any model; without Fig. 6 if they differ in their evaluations."""
    return (
        *published(),
        *post_processing(),
        *at_resolutions(resolutions),
        *(over_time(evaluations) if evaluations else ()),
        *refined(),
        *other_targets(),
    )


def available(settings: Settings, targets: Collection[TargetName], networks: Collection[str]) -> tuple[Setting, ...]:
    """The settings that look for nothing else, and have no other network."""
    known = {None, *networks}
    return tuple(one for one in settings if one.target in targets and one.method.network in known)


def quick() -> tuple[Setting, ...]:
    """What `make eval-quick` measures."""
    together = Setting("affinity 1 + dCRF", AGAINST_SCENE, FULL), Setting("ovam", AGAINST_SCENE, OVAM.words)
    return *published(), *pair("affinity 1 + dCRF", FULL), *together


LONG = tuple(setting for setting in published() if setting.name.startswith("attn2mask"))
"""What is measured at 100 steps: Attn2Mask was defined there."""


def on_real_images() -> tuple[Setting, ...]:
    """What is measured on real images."""
    methods = {"daam": PLAIN, "min-max": MIN_MAX, "affinity 1": AFFINITY, "affinity 1 + dCRF": FULL}
    targets = (WORDS, AGAINST_SCENE, AGAINST_ALL, PUBLISHED_RECIPE, *REAL_RECIPES)
    return tuple(Setting(name, target, method) for target in targets for name, method in methods.items())
