"""What is compared: what is asked for, and how its heat becomes a mask."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

import ovam
from ovam import CrfParameters, Method

Asked = str  # "words", or the name of a recipe of tokens
Kind = Literal["words", "tokens"]

GRID = tuple(float(tau) for tau in np.arange(0.04, 0.99, 0.02).round(2))
"""The thresholds that are tried."""


@dataclass(frozen=True)
class Setting:
    """A method and what it is asked for."""

    name: str
    asked: Asked
    method: Method

    @property
    def key(self) -> str:
        """Its name in results."""
        return f"{self.name} | {self.asked}"


def both(name: str, words: Method, tokens: Method, recipe: str = "tokens") -> tuple[Setting, Setting]:
    """A method with words and with learned tokens."""
    return Setting(name, "words", words), Setting(name, recipe, tokens)


def variant(name: str, **changes: object) -> tuple[Setting, Setting]:
    """OVAM's heatmap without post-processing, changed, with words and with tokens."""
    plain = replace(Method(name), **changes)  # pyrefly: ignore
    return both(name, plain, plain)


PUBLISHED = ("daam", "attn2mask", "ovam")


def published() -> tuple[Setting, ...]:
    """The published methods."""
    pairs = [both(name, ovam.method(f"{name}-words"), ovam.method(f"{name}-optimized")) for name in PUBLISHED]
    return tuple(setting for pair in pairs for setting in pair)


def sketch() -> tuple[Setting, ...]:
    """First look."""
    found = [*published()]
    for norm in ("max", "minmax"):
        found += variant(f"plain {norm}", normalize=norm)
        found += variant(f"sa+ {norm}", normalize=norm, refine="attention", alpha=0.85)
        found += variant(f"sa- {norm}", normalize=norm, refine="attention", alpha=0.85, sign=-1)
        found += variant(f"crf {norm}", normalize=norm, crf=CrfParameters())
        found += variant(f"sa+crf {norm}", normalize=norm, refine="attention", alpha=0.85, crf=CrfParameters())
        for steps in (1, 2, 3, 4):
            found += variant(f"affinity{steps} {norm}", normalize=norm, refine="affinity", affinity_steps=steps)
        found += variant(f"affinity1 crf {norm}", normalize=norm, refine="affinity", crf=CrfParameters())
        for blocks in ((16,), (8,), (4,), (16, 8), (16, 4), (8, 4)):
            found += variant(f"blocks {blocks} {norm}", normalize=norm, blocks=blocks)
        for at in (0.1, 0.3, 0.5, 0.7, 0.9):
            found += variant(f"at {at} {norm}", normalize=norm, evaluations=at)
    return tuple(found)
