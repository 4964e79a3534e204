"""What the evaluation needs of whoever generates images, learns tokens and finds masks: the library, or a service."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jaxtyping import Float
from numpy.typing import NDArray

from experiments.evaluation.datasets import Case
from experiments.evaluation.recipes import Recipe
from experiments.evaluation.settings import Setting, Settings
from experiments.evaluation.subjects import Mask, Subject
from experiments.evaluation.targets import TargetName

Fit = dict[str, Any]
"""What is kept of learned tokens, as JSON: where their rows are, "classes" in their order, and how it went."""
Learned = Mapping[tuple[TargetName, str], Fit]
"""Everything that was learned, by recipe and by class."""
Words = Mapping[str, str]
"""The words of classes, by class."""
Examples = Sequence[tuple[Subject, NDArray[Any]]]
"""Images, and a mask or a map of labels of each."""


class Answers(Protocol):
    """The heat and the masks of one image."""

    def heat(self, setting: Setting) -> Float[NDArray[Any], "height width"]:
        """What a setting's threshold cuts, at the size of the image."""
        ...

    def mask(self, setting: Setting) -> Mask:
        """A setting's mask, at its own threshold."""
        ...


class Backend(Protocol):
    """Whoever generates images and keeps their traces."""

    def now(self) -> float:
        """The time in seconds, on the clock that counts here."""
        ...

    def generate(self, cases: Sequence[Case]) -> list[Subject]:
        """Generate the images of cases, and trace those that are real."""
        ...

    def learn(self, recipe: Recipe, words: Words, examples: Examples) -> Fit:
        """Learn the tokens of classes, which start from their words."""
        ...

    def answers(self, subject: Subject, learned: Learned, *, masks: Settings, heats: Settings) -> Answers:
        """Look for everything in an image: some settings are asked for their masks, some for what their thresholds cut."""
        ...
