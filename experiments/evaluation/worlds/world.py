"""What the evaluation needs of a world: classes and their words, captions, annotators, and real images with exact masks."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # (height, width, 3)
Labels = NDArray[np.uint8]  # (height, width): 0 the ground, others by `World.label`


class WorldError(Exception):
    """What a world needs is missing, or of another version; the message says what."""


@dataclass(frozen=True)
class ClassWords:
    """A class and the words for it."""

    name: str
    word: str
    """The plainest, by which it is looked for."""
    synonym: str = ""
    """Another one of the training captions; none: there is none."""


Vocabulary = tuple[ClassWords, ...]


@dataclass(frozen=True)
class Caption:
    """A prompt that mentions a class."""

    text: str
    word: str
    """By which it mentions the class."""
    others: tuple[str, ...] = ()
    """The words by which it mentions other classes."""


@dataclass(frozen=True, eq=False)
class RealImage:
    """An image that the model did not make, with the exact labels of everything in it."""

    image: Picture
    labels: Labels
    others: tuple[str, ...] = ()
    """The words of the other classes in it."""


class World(Protocol):
    """Where a model's images come from, and who knows what is in them."""

    @property
    def name(self) -> str:
        """What it is called in results."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes that are looked for."""
        ...

    def label(self, class_name: str) -> int:
        """A class's label."""
        ...

    def caption(self, class_name: str, seed: int) -> Caption:
        """Describe a scene of several things, the class among them; every other caption mentions it by a synonym, if any."""
        ...

    def annotate(self, image: Picture) -> Labels:
        """The labels of a generated image, which count as true."""
        ...

    def annotate_again(self, image: Picture) -> Labels | None:
        """The labels by an independent second annotator, if there is one."""
        ...

    def annotator_hashes(self) -> tuple[str, ...]:
        """SHA-256 of the weights of the annotators, the second one last."""
        ...

    def annotator_errors(self) -> dict[str, float]:
        """The mIoU of the annotators on unseen scenes with exact masks, by what they were measured on."""
        ...

    def real_image(self, class_name: str, seed: int, things: int) -> RealImage:
        """Draw a real image of some things, the class among them."""
        ...


def article(words: str) -> str:
    """Put "a" or "an" before words."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
