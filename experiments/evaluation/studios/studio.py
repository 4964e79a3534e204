"""What the evaluation needs of whoever makes images, learns tokens and measures: the library in process, or a service."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from experiments.evaluation.asking import Asked
from experiments.evaluation.datasets import Case
from experiments.evaluation.images import Made, Mask
from experiments.evaluation.recipes import Recipe
from experiments.evaluation.settings import Setting, Settings

Fit = dict[str, Any]
"""What is kept of learned tokens, as JSON: where their rows are, "kinds" in their order, and how it went."""
Learned = Mapping[tuple[Asked, str], Fit]
"""Everything that was learned, by recipe and by what it was learned for."""
Words = Mapping[str, str]
"""The words of classes, by class."""
Examples = Sequence[tuple[Made, NDArray[Any]]]
"""Images, and a mask or a map of labels of each."""


class Heats(Protocol):
    """What an image answers to settings."""

    def heat(self, setting: Setting) -> Float[Tensor, "height width"]:
        """What a setting's threshold cuts, at the size of the image."""
        ...

    def mask(self, setting: Setting) -> Mask:
        """A setting's mask, at its own threshold."""
        ...


class Studio(Protocol):
    """Whoever makes images, keeps their traces, and is asked about them."""

    def now(self) -> float:
        """The time in seconds, on the clock that counts here."""
        ...

    def make(self, cases: Sequence[Case], *, both_halves: bool = False) -> list[Made]:
        """Make the images of cases."""
        ...

    def learn(self, recipe: Recipe, words: Words, examples: Examples) -> Fit:
        """Learn the tokens of classes, which start from their words."""
        ...

    def look(self, made: Made, learned: Learned, *, masks: Settings, heats: Settings) -> Heats:
        """Ask about an image: some settings for their masks, some for what their thresholds cut."""
        ...
