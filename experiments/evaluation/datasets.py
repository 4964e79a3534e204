"""Which images the evaluation is made on: prompts and seeds, as data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from experiments.tinyworld.captions import SAID_PARTS, caption
from experiments.tinyworld.grounds import GROUNDS
from experiments.tinyworld.render import EVALUATION_CAPTIONS, EVALUATION_RENDERS
from experiments.tinyworld.scene import Drawing, draw, sample
from experiments.tinyworld.shapes import BY_NAME, CLASS_NAMES

GUIDANCE_SCALE = 3.0  # of the bundled model
SEEDS_A_CLASS = 1000  # room between the first seeds of two classes

Source = Literal["generated", "render"]
Group = Literal["generated", "things", "parts", "grounds"]
"""Sets that share thresholds: those of generated images, and three of renders."""


@dataclass(frozen=True)
class Case:
    """One image and what is looked for in it: a class, a class's part ("car/wheel") or a ground."""

    dataset: str
    group: Group
    kind: str
    number: int
    prompt: str
    seed: int
    steps: int
    guidance_scale: float = GUIDANCE_SCALE
    word: str = ""
    """By which it is looked for; none: by the kind's name."""
    mask: str = ""
    """The file of its annotation; none: the annotator's, or the drawing's own."""

    @property
    def source(self) -> Source:
        """Whether the model made the image, or the world drew it."""
        return "generated" if self.group == "generated" else "render"

    @property
    def name(self) -> str:
        """What it is called in results."""
        return f"{self.dataset} {self.kind} {self.number}"


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

    def cases(self, images: int, kinds: Sequence[str] = CLASS_NAMES) -> tuple[Case, ...]:
        """The first `images` of every class, classes in turn so that any beginning is balanced."""
        return tuple(self.case(kind, number) for number in range(images) for kind in kinds)

    def of_kind(self, kind: str) -> tuple[Case, ...]:
        """A class's images."""
        return tuple(self.case(kind, number) for number in range(self.images))

    def case(self, kind: str, number: int) -> Case:
        """Image `number` of a class."""
        seed = self.first_seed + SEEDS_A_CLASS * CLASS_NAMES.index(kind) + number
        return Case(self.name, "generated", kind, number, self.prompt(kind, seed), seed, self.steps)


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
        if synonym == (kind not in words_of(text)) and said(kind, text) is not None:
            return text


def words_of(text: str) -> list[str]:
    """The words of a caption."""
    return text.replace(",", "").split()


def said(kind: str, text: str) -> str | None:
    """The word by which a caption calls a class, if it does."""
    return next((word for word in (kind, *BY_NAME[kind].synonyms) if word in words_of(text)), None)


DATASETS: dict[str, DataSet] = {
    each.name: each
    for each in (
        DataSet("voc-sim-tuning", plain, images=6, first_seed=10_000),
        DataSet("coco-cap-tuning", rich, images=6, first_seed=30_000),
        DataSet("tokens", plain, images=16, first_seed=200_000),
        DataSet("token-scenes", rich, images=16, first_seed=220_000),
        DataSet("voc-sim", plain, images=30, first_seed=600_000),
        DataSet("coco-cap", rich, images=55, first_seed=620_000),
        DataSet("voc-sim-100", plain, images=10, first_seed=600_000, steps=100),
    )
}
"""Tuning below 100 000, learning of tokens at 200 000, reporting from 600 000 on; the model's card has 500 000 to 502 000.

Attn2Mask is defined for generations of 100 steps; some are drawn for it from the seeds of voc-sim.
"""

RENDERS = {"tuning": 0, "tokens": 10_000, "reporting": 20_000}
"""The first seeds of the renders of every purpose."""
RENDER_SETS: dict[Group, str] = {"things": "renders", "parts": "render-parts", "grounds": "render-grounds"}
"""What is reported on them."""


@cache
def render(seed: int) -> Drawing:
    """The drawing of one thing, class by class, with exact masks of it and its parts."""
    rng = np.random.default_rng((EVALUATION_RENDERS, seed))
    return draw(sample(rng, (CLASS_NAMES[seed % len(CLASS_NAMES)],)), rng)


def renders(purpose: str, images: int, kinds: Sequence[str] = CLASS_NAMES) -> Iterator[Case]:
    """The first renders of some classes: the thing, those of its parts that captions name, and the ground."""
    end = "" if purpose == "reporting" else f"-{purpose}"
    for number in range(images * len(CLASS_NAMES)):
        seed, round_ = RENDERS[purpose] + number, number // len(CLASS_NAMES)
        kind = CLASS_NAMES[seed % len(CLASS_NAMES)]
        if kind not in kinds:
            continue
        drawing = render(seed)
        yield Case(f"{RENDER_SETS['things']}{end}", "things", kind, round_, "", seed, 0)
        for part in SAID_PARTS[kind]:
            if f"{kind}/{part}" in drawing.parts:
                yield Case(f"{RENDER_SETS['parts']}{end}", "parts", f"{kind}/{part}", round_, "", seed, 0)
        yield Case(f"{RENDER_SETS['grounds']}{end}", "grounds", drawing.scene.ground_name, round_, "", seed, 0)


GROUND_NAMES = tuple(ground.name for ground in GROUNDS)
