"""What is compared: what is asked for, and how its heat becomes a mask. Every row of every table is one of these."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

import ovam
from experiments.evaluation.asking import VOCABULARY, WORDINGS, Asked
from experiments.evaluation.recipes import FINE, FINE_OF_SCENES, ONE_IMAGE, PUBLISHED_RECIPE, RECIPES, UNCONDITIONAL
from ovam import CrfParameters, Method
from ovam.masks import LESS
from ovam.trace import Half

Grid = tuple[float, ...]
GRID: Grid = tuple(float(tau) for tau in np.arange(0.04, 0.99, 0.02).round(2))
"""The thresholds that are tried."""
CRF_GRID: Grid = GRID[11:42:5]
"""Those that are tried where every one of them costs a CRF: 0.26, 0.36 ... 0.86."""
METHODS = ("daam", "attn2mask", "ovam")


@dataclass(frozen=True)
class Setting:
    """A method and what it is asked for."""

    name: str
    asked: Asked
    method: Method
    half: Half = "conditional"
    tuned: bool = True
    """Whether its threshold is tuned, or as published."""

    @property
    def key(self) -> str:
        """Its name in results."""
        return key(self.name, self.asked)

    @property
    def grid(self) -> Grid:
        """The thresholds to try."""
        if not self.tuned:
            return (self.method.tau,)
        return GRID if self.method.crf is None else CRF_GRID

    def at(self, tau: float) -> "Setting":
        """The same with another threshold."""
        return replace(self, method=replace(self.method, tau=tau))


Settings = Sequence[Setting]


def key(name: str, asked: Asked) -> str:
    """The name of a row and of what is asked for, as one."""
    return f"{name} | {asked}"


def pair(name: str, words: Method, tokens: Method | None = None, *, tuned: bool = True) -> tuple[Setting, Setting]:
    """A method with words and with learned tokens."""
    return Setting(name, "words", words, tuned=tuned), Setting(name, PUBLISHED_RECIPE, tokens or words, tuned=tuned)


PLAIN = Method("plain")
MIN_MAX = Method("plain", normalize="minmax")
AFFINITY = Method("affinity", normalize="minmax", refine="affinity")
FULL = replace(AFFINITY, crf=CrfParameters())


def published() -> Iterator[Setting]:
    """Tables 1 and 2: the published methods, their thresholds as published and tuned here."""
    for name in METHODS:
        words, tokens = ovam.method(f"{name}-words"), ovam.method(f"{name}-optimized")
        yield from pair(name, words, tokens)
        yield from pair(f"{name}, published threshold", words, tokens, tuned=False)


def post_processing() -> Iterator[Setting]:
    """Table 4, where "daam" is without and "ovam" with both, and the other sign of Eq. 8."""
    words, tokens = ovam.method("ovam-words"), ovam.method("ovam-optimized")
    yield from pair("self-attention", replace(words, crf=None), replace(tokens, crf=None))
    yield from pair("dCRF", replace(words, refine="none"), replace(tokens, refine="none"))
    yield from pair("self-attention, other sign", replace(words, crf=None, sign=LESS), replace(tokens, crf=None, sign=LESS))


def grids_of(resolutions: Sequence[int]) -> list[tuple[int, ...]]:
    """The combinations of resolutions of Table 5, all of them left out."""
    return [several for count in range(1, len(resolutions)) for several in combinations(resolutions, count)]


def named_blocks(grids: Sequence[int]) -> str:
    """What a row of Table 5 is called."""
    return f"blocks {' + '.join(map(str, grids))}"


def at_resolutions(resolutions: Sequence[int]) -> Iterator[Setting]:
    """Table 5, where "ovam" has all blocks."""
    words, tokens = ovam.method("ovam-words"), ovam.method("ovam-optimized")
    for grids in grids_of(resolutions):
        yield from pair(named_blocks(grids), replace(words, blocks=grids), replace(tokens, blocks=grids))


Selection = Literal["single", "first", "last"]
POINTS: dict[Selection, tuple[int, ...]] = {
    "single": (0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 29),
    "first": (1, 3, 6, 10, 15, 20, 25, 30),
    "last": (1, 3, 6, 10, 15, 20, 25, 30),
}
OF = 30
"""How many evaluations the points are of."""


def chosen(selection: Selection, point: int, evaluations: int = OF) -> int | slice:
    """The evaluations of a point of Fig. 6, at the same share of however many there are."""
    if selection == "single":
        return point * evaluations // OF
    count = max(1, round(point * evaluations / OF))
    return slice(count) if selection == "first" else slice(-count, None)


def over_time(evaluations: int = OF) -> Iterator[Setting]:
    """Fig. 6, without post-processing."""
    for selection, points in POINTS.items():
        for point in points:
            yield from pair(f"{selection} {point}", replace(PLAIN, evaluations=chosen(selection, point, evaluations)))


def refined() -> Iterator[Setting]:
    """Beyond the paper: min-max, and heat spread along the self-attention."""
    yield from pair("min-max", MIN_MAX)
    yield from pair("half of the range", replace(MIN_MAX, tau=0.5), tuned=False)
    for steps in range(1, 5):
        yield from pair(f"affinity {steps}", replace(AFFINITY, affinity_steps=steps))
    yield from pair("affinity 1, share of the maximum", replace(AFFINITY, normalize="max"))
    yield from pair("affinity 1 + dCRF", FULL)
    yield from pair("attention + affinity 1 + dCRF", replace(FULL, refine="both"))


def halves() -> Iterator[Setting]:
    """Beyond the paper: the queries of the unconditional half."""
    for asked in ("words", PUBLISHED_RECIPE, UNCONDITIONAL):
        yield Setting("unconditional half", asked, PLAIN, half="unconditional")


def asked_otherwise() -> Iterator[Setting]:
    """Beyond the paper: other wordings, all words at once, and tokens learned in other ways."""
    others = [*WORDINGS, VOCABULARY, *RECIPES]
    for asked in others:
        if asked == UNCONDITIONAL:
            continue
        if asked not in ("words", PUBLISHED_RECIPE):
            yield Setting("min-max", asked, MIN_MAX)
            yield Setting("affinity 1", asked, AFFINITY)
        if asked == VOCABULARY or (asked in RECIPES and asked != PUBLISHED_RECIPE and not RECIPES[asked].joint):
            yield Setting("affinity 1 + dCRF", asked, FULL)
    yield Setting("daam", "words, padded", PLAIN)
    yield Setting("daam", "own prompt", PLAIN)
    yield Setting("daam", ONE_IMAGE, PLAIN)


LATE, SHARPEST = slice(15, None), "not the coarsest, late"
WHERE: dict[str, Method] = {
    "late": replace(PLAIN, evaluations=LATE),
    "finest": replace(PLAIN, blocks=(16,)),
    "finest, late": replace(PLAIN, blocks=(16,), evaluations=LATE),
    SHARPEST: replace(PLAIN, blocks=(16, 8), evaluations=LATE),
}
"""Evaluations and grids of the bundled model."""


def where_objects_part() -> Iterator[Setting]:
    """Beyond the paper: blocks and evaluations that tell objects apart."""
    for name, where in WHERE.items():
        chosen = {"blocks": where.blocks, "evaluations": where.evaluations}
        for asked in ("words", PUBLISHED_RECIPE, VOCABULARY, FINE, FINE_OF_SCENES):
            yield Setting(f"min-max, {name}", asked, replace(MIN_MAX, **chosen))
            yield Setting(f"affinity 1, {name}", asked, replace(AFFINITY, **chosen))
    for asked in ("words", VOCABULARY, FINE_OF_SCENES):
        yield Setting(f"affinity 1 + dCRF, {SHARPEST}", asked, replace(FULL, blocks=(16, 8), evaluations=LATE))


def generated(resolutions: Sequence[int]) -> tuple[Setting, ...]:
    """Everything that is measured on the bundled model's images."""
    return (*of_any_model(resolutions, OF), *where_objects_part())


def of_any_model(resolutions: Sequence[int], evaluations: int | None) -> tuple[Setting, ...]:
    """What is measured on images of any model; without Fig. 6 if they differ in their evaluations."""
    return (
        *published(),
        *post_processing(),
        *at_resolutions(resolutions),
        *(over_time(evaluations) if evaluations else ()),
        *refined(),
        *halves(),
        *asked_otherwise(),
    )


def answered(settings: Settings, asked: Collection[Asked]) -> tuple[Setting, ...]:
    """The settings that ask for nothing else; without tokens of the unconditional half it is left out."""
    half = "unconditional" if UNCONDITIONAL in asked else "conditional"
    return tuple(one for one in settings if one.asked in asked and one.half in ("conditional", half))


def quick() -> tuple[Setting, ...]:
    """What `make eval-quick` measures."""
    return *published(), *pair("affinity 1 + dCRF", FULL)


LONG = tuple(setting for setting in published() if setting.name.startswith("attn2mask"))
"""What is measured at 100 steps: Attn2Mask was defined there."""


def on_renders(asked: Sequence[Asked]) -> tuple[Setting, ...]:
    """What is measured on real images."""
    methods = {"daam": PLAIN, "min-max": MIN_MAX, "affinity 1": AFFINITY, "affinity 1 + dCRF": FULL}
    return tuple(Setting(name, one, method) for name, method in methods.items() for one in asked)
