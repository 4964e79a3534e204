"""Which images the evaluation is made on: prompts and seeds, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from experiments.evaluation.world import World, article

SEEDS_A_CLASS = 1000  # room between the first seeds of two classes
GUIDANCE_SCALE = 3.0  # of bundled models, unless their card says otherwise

Group = Literal["generated", "real"]
"""Sets that share thresholds."""


@dataclass(frozen=True)
class Case:
    """One image and the class that is looked for in it."""

    dataset: str
    group: Group
    class_name: str
    number: int
    word: str
    """By which the class is looked for."""
    prompt: str
    seed: int
    steps: int
    guidance_scale: float
    mention: str = ""
    """The word by which the prompt mentions the class, if it does."""
    others: tuple[str, ...] = ()
    """The words of other things: those that the prompt mentions, or that are in the real image."""
    synonym: str = ""
    """Another word of the class, if it has one."""
    things: int = 1
    """How many things a real image shows."""
    mask: str = ""
    """The file of its annotation; none: the annotator's, or the real image's own."""

    @property
    def name(self) -> str:
        """What it is called in results."""
        return f"{self.dataset} {self.class_name} {self.number}"


class ImageSet(Protocol):
    """Images of every class."""

    @property
    def images(self) -> int:
        """How many of a class there are at most."""
        ...

    def of_class(self, class_name: str) -> tuple[Case, ...]:
        """A class's images."""
        ...

    def cases(self, images: int, classes: Sequence[str]) -> tuple[Case, ...]:
        """The first `images` of every class, classes in turn so that every beginning is balanced."""
        ...


@dataclass(frozen=True)
class Seeds:
    """Images drawn from seeds that nothing else uses."""

    name: str
    images: int
    """Of every class."""
    first_seed: int
    scenes: bool = False
    """Whether images show several things, or the class alone."""
    real: bool = False
    """Whether they are real images, or generated ones."""
    steps: int = 30


SETS: tuple[Seeds, ...] = (
    Seeds("voc-sim-tuning", 6, 10_000),
    Seeds("coco-cap-tuning", 6, 40_000, scenes=True),
    Seeds("tokens", 24, 200_000),
    Seeds("token-scenes", 32, 240_000, scenes=True),
    Seeds("voc-sim", 30, 600_000),
    Seeds("coco-cap", 40, 640_000, scenes=True),
    Seeds("voc-sim-100", 10, 600_000, steps=100),
    Seeds("real-tuning", 4, 300_000, real=True),
    Seeds("real-scenes-tuning", 4, 330_000, real=True, scenes=True),
    Seeds("real-tokens", 8, 360_000, real=True),
    Seeds("real", 20, 400_000, real=True),
    Seeds("real-scenes", 20, 430_000, real=True, scenes=True),
)
"""Tuning and learning below 400 000, reporting above; the model's card has 500 000 to 502 000.

Attn2Mask is defined for generations of 100 steps; some are drawn for it from the seeds of voc-sim.
"""
FIRST_SEEDS = {each.name: each.first_seed for each in SETS}


@dataclass(frozen=True)
class WorldSet:
    """Images of a world."""

    seeds: Seeds
    world: World
    guidance_scale: float = GUIDANCE_SCALE

    @property
    def images(self) -> int:
        """Of every class."""
        return self.seeds.images

    def of_class(self, class_name: str) -> tuple[Case, ...]:
        """A class's images."""
        return tuple(self.case(class_name, number) for number in range(self.images))

    def cases(self, images: int, classes: Sequence[str]) -> tuple[Case, ...]:
        """The first `images` of every class, classes in turn."""
        return tuple(self.case(class_name, number) for number in range(images) for class_name in classes)

    def case(self, class_name: str, number: int) -> Case:
        """Image `number` of a class: "a photograph of ..." (VOC-sim, section 4.1), a caption, or a real image."""
        place, words = next((k, one) for k, one in enumerate(self.world.vocabulary) if one.name == class_name)
        seed = self.seeds.first_seed + SEEDS_A_CLASS * place + number
        plain = Case(
            dataset=self.seeds.name,
            group="real" if self.seeds.real else "generated",
            class_name=class_name,
            number=number,
            word=words.word,
            prompt="" if self.seeds.real else f"a photograph of {article(words.word)}",
            seed=seed,
            steps=self.seeds.steps,
            guidance_scale=self.guidance_scale,
            mention="" if self.seeds.real else words.word,
            synonym=words.synonym,
        )
        if not self.seeds.scenes:
            return plain
        if self.seeds.real:
            return replace(plain, things=2)
        caption = self.world.caption(class_name, seed)
        return replace(plain, prompt=caption.text, mention=caption.word, others=caption.others)


def sets_of(world: World, guidance_scale: float = GUIDANCE_SCALE) -> Mapping[str, WorldSet]:
    """All sets of a world, by name."""
    return {seeds.name: WorldSet(seeds, world, guidance_scale) for seeds in SETS}
