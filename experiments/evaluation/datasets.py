"""Which images the evaluation is made on: prompts and seeds, as data."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.tinyworld.captions import caption
from experiments.tinyworld.render import EVALUATION_CAPTIONS
from experiments.tinyworld.scene import sample
from experiments.tinyworld.shapes import BY_NAME, CLASS_NAMES

SEEDS_A_CLASS = 1000  # room between the first seeds of two classes


@dataclass(frozen=True)
class Case:
    """One image of a data set and the class that is looked for in it."""

    dataset: str
    kind: str
    number: int
    prompt: str
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.kind}-{self.number:03d}"


@dataclass(frozen=True)
class DataSet:
    """Images of every class, drawn from seeds that nothing else uses."""

    name: str
    prompt: Callable[[str, int], str]
    """The prompt of a class's image, from its seed."""
    images: int
    """Of every class."""
    first_seed: int
    steps: int = 30

    def cases(self, images: int | None = None) -> tuple[Case, ...]:
        """All images, or the first `images` of every class, classes in turn so that any beginning is balanced."""
        return tuple(self.case(kind, number) for number in range(images or self.images) for kind in CLASS_NAMES)

    def case(self, kind: str, number: int) -> Case:
        """Image `number` of a class."""
        seed = self.first_seed + SEEDS_A_CLASS * CLASS_NAMES.index(kind) + number
        return Case(self.name, kind, number, self.prompt(kind, seed), seed, self.steps)


def plain(kind: str, seed: int) -> str:  # noqa: ARG001  # captions need one
    """The prompt of VOC-sim (section 4.1)."""
    return f"a photograph of a {kind}"


def rich(kind: str, seed: int) -> str:
    """A caption of a scene with the class and one or two other things; every other one names the class by a synonym alone.

    The scene is drawn and described as those of the training are, from another seed space.
    """
    rng = np.random.default_rng((EVALUATION_CAPTIONS, seed))
    others = [name for name in CLASS_NAMES if name != kind]
    chosen = (kind, *(str(name) for name in rng.choice(others, int(rng.choice([1, 2], p=[0.75, 0.25])), replace=False)))
    scene = sample(rng, chosen)
    synonym = seed % 2 == 1
    while True:
        text = caption(rng, scene)
        words = text.replace(",", "").split()
        if synonym == (kind not in words) and (not synonym or any(word in words for word in BY_NAME[kind].synonyms)):
            return text


DATASETS: dict[str, DataSet] = {
    each.name: each
    for each in (
        DataSet("voc-sim-tuning", plain, images=6, first_seed=10_000),
        DataSet("coco-cap-tuning", rich, images=6, first_seed=30_000),
        DataSet("voc-sim-tuning-100", plain, images=6, first_seed=10_000, steps=100),
        DataSet("coco-cap-tuning-100", rich, images=6, first_seed=30_000, steps=100),
        DataSet("tokens", plain, images=16, first_seed=200_000),
        DataSet("voc-sim", plain, images=30, first_seed=600_000),
        DataSet("coco-cap", rich, images=55, first_seed=620_000),
        DataSet("voc-sim-100", plain, images=30, first_seed=600_000, steps=100),
        DataSet("coco-cap-100", rich, images=55, first_seed=620_000, steps=100),
    )
}
"""Tuning below 100 000, learning of tokens at 200 000, reporting from 600 000 on; the model's card has 500 000 to 502 000.

Attn2Mask is defined for generations of 100 steps; they are drawn for it from the same seeds, as the paper did.
"""
