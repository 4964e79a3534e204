"""What the demo shows, as data. Seeds were found with `python -m experiments.demo search`.

`python -m experiments.demo draw` writes the pictures that the demo brings along: where an annotator sees what is asked for.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PICTURES = Path(__file__).with_name("pictures")

Mask = NDArray[np.bool_]  # (height, width)
Picture = NDArray[np.uint8]  # (height, width, 3)


@dataclass(frozen=True)
class Row:
    """An image and two words that are looked for in it."""

    name: str
    title: str
    prompt: str
    """Of its generation; none: it is the real image."""
    seed: int
    words: tuple[str, str]
    compete: bool = True
    """Whether the words share one softmax, and no pixel belongs to both; two words for one thing do not."""


ROWS: tuple[Row, ...] = (
    Row("unnamed", "Something that the prompt does not name", "a photograph of a cat", 500_002, ("cat", "hat")),
    Row("named", "Words of the prompt", "a photograph of a turtle and a dog at the top", 51_002, ("dog", "turtle")),
    Row("unsaid", "A word that is not in the prompt", "a photograph of a cat", 607_016, ("cat", "kitten"), compete=False),
    Row("hat", "A hat on an animal", "a cat wearing a hat", 1, ("cat", "hat")),
)
REAL = Row("real", "A real image, in a style that the model has never seen", "", 346_000, ("sheep", "bird"))


@dataclass(frozen=True)
class TokenRow:
    """A token that is learned from the image of one seed, and looked for in those of others."""

    word: str
    taught: int
    others: tuple[int, int]

    @property
    def prompt(self) -> str:
        """Of all images."""
        return f"a photograph of a {self.word}"


TOKEN_ROW = TokenRow("television", 219_000, (29_000, 29_005))


def mask_file(name: str, thing: str | int) -> Path:
    """The path of the mask of a thing in the image of a row, or of the token row's in the image of a seed."""
    return PICTURES / f"{name}-{thing}.png"


def true_mask(name: str, thing: str | int) -> Mask:
    """Read a mask."""
    with Image.open(mask_file(name, thing)) as file:
        return np.array(file.convert("1"))


def real_image() -> Picture:
    """Read the real image."""
    with Image.open(PICTURES / "real.png") as file:
        return np.array(file.convert("RGB"))
