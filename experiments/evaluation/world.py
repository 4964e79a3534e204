"""The world that a model draws, 128x128: Pascal VOC's classes and more, as sprites of open emoji sets; one style is held out."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.hashes import hash_of
from experiments.world import atlas
from experiments.world.annotator import FIRST, MODELS, SECOND, Annotator
from experiments.world.atlas import AtlasError
from experiments.world.captions import article, caption
from experiments.world.render import EVALUATION_CAPTIONS, EVALUATION_RENDERS
from experiments.world.scene import HELD_OUT, START, WORLD, Recipe, classes_of, draw, sample
from ovam.core.words import spans_of

__all__ = ["Caption", "ClassWords", "RealImage", "World", "article", "image_size", "world_of"]

MARK = "world.json"
"""In the folder of a model: the atlas that it was trained on, and the scenes: START, WORLD, or both."""
OTHERS = ((1, 2), (0.75, 0.25))  # how many other things a caption's scene has, and how often
TRIES = 100  # until a caption may mention the class as it likes: no sprite of the recipe may be called by a synonym

Picture = NDArray[np.uint8]  # (height, width, 3)
Labels = NDArray[np.uint8]  # (height, width): 0 the ground, others by `World.label`


@dataclass(frozen=True)
class ClassWords:
    """A class and the words for it."""

    name: str
    word: str
    """The plainest, by which it is looked for."""
    synonym: str = ""
    """Another one of the training captions; none: there is none."""


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


@dataclass(frozen=True)
class World:
    """Where a model's images come from, and who knows what is in them."""

    recipe: Recipe = WORLD
    """Of the scenes that the model was trained on."""

    @cached_property
    def vocabulary(self) -> tuple[ClassWords, ...]:
        """The classes that are looked for: Pascal VOC's."""
        kinds = atlas.load().kinds.values()
        return tuple(ClassWords(kind.name, kind.words[0], (*kind.words, "")[1]) for kind in kinds if kind.voc)

    def label(self, class_name: str) -> int:
        """A class's label. AtlasError for an unknown one."""
        return atlas.load().label(class_name)

    def caption(self, class_name: str, seed: int) -> Caption:
        """Describe a scene of the class and one or two other things; every other caption mentions it by a synonym, if any."""
        rng = np.random.default_rng((EVALUATION_CAPTIONS, seed))
        recipe = replace(self.recipe, twins=0.0)
        plain = atlas.load().kind(class_name).words[0]
        by_synonym = seed % 2 == 1 and len(atlas.load().kind(class_name).words) > 1
        for attempt in range(10 * TRIES):
            count = int(rng.choice(OTHERS[0], p=OTHERS[1]))
            classes = (class_name, *others(rng, class_name, count, classes_of(recipe)))
            text = caption(rng, sample(rng, recipe, classes))
            word, *rest = (mention(name, text) for name in classes)
            if word and any(rest) and ((word != plain) == by_synonym or attempt > TRIES):
                return Caption(text, word, tuple(filter(None, rest)))
        raise AtlasError(f"no caption of {10 * TRIES} mentions {class_name} beside something else")

    def annotate(self, image: Picture) -> Labels:
        """The labels of a generated image by the first annotator, which count as true."""
        return annotator(FIRST).labels(image[None])[0]

    def annotate_again(self, image: Picture) -> Labels | None:
        """The labels by the independent second annotator, if it is there."""
        return annotator(SECOND).labels(image[None])[0] if SECOND in present() else None

    def annotator_hashes(self) -> tuple[str, ...]:
        """SHA-256 of the weights of the annotators, the second one last.

        AtlasError if the first is missing, or one is damaged or of another atlas.
        """
        names = dict.fromkeys((FIRST, *present()))
        for name in names:
            annotator(name)
        return tuple(hash_of([MODELS / f"{name}.safetensors"]) for name in names)

    def annotator_errors(self) -> dict[str, float]:
        """The annotators' mIoU on unseen scenes with exact masks, by annotator and kind of scene, as their reports have it."""
        reports = {name: MODELS / f"{name}.json" for name in present()}
        told = {name: json.loads(report.read_text()) for name, report in reports.items() if report.is_file()}
        return {
            f"{name} on unseen {what} scenes": value["mIoU"]
            for name, report in told.items()
            for what, value in report.items()
            if isinstance(value, dict)
        }

    def real_image(self, class_name: str, seed: int, things: int) -> RealImage:
        """Draw some things, the class among them, in the style that neither model nor annotators have seen."""
        rng = np.random.default_rng((EVALUATION_RENDERS, seed))
        recipe = replace(HELD_OUT, twins=0.0)
        drawable = [name for name in classes_of(self.recipe) if name in classes_of(recipe)]
        other = others(rng, class_name, things - 1, drawable)
        drawing = draw(sample(rng, recipe, (class_name, *other)))
        return RealImage(drawing.image, drawing.labels(), tuple(atlas.load().kind(name).words[0] for name in other))


@cache
def world_of(model: Path) -> World:
    """The world that a model draws. AtlasError if the atlas of its training is not today's."""
    mark = json.loads((model / MARK).read_text()) if (model / MARK).is_file() else {}
    if "atlas" in mark:
        atlas.check(mark["atlas"])
    return World(START if mark.get("recipe") == START.name else WORLD)


def image_size(model: Path) -> int:
    """The side of a model's images in pixels."""
    unet, autoencoder = (json.loads((model / part / "config.json").read_text()) for part in ("unet", "vae"))
    return unet["sample_size"] << (len(autoencoder["block_out_channels"]) - 1)


@cache
def annotator(name: str) -> Annotator:
    """An annotator of this process."""
    return Annotator.load(name, MODELS)


def present() -> tuple[str, ...]:
    """The annotators whose weights are there."""
    return tuple(name for name in (FIRST, SECOND) if (MODELS / f"{name}.safetensors").is_file())


def others(rng: np.random.Generator, class_name: str, count: int, classes: Iterable[str]) -> tuple[str, ...]:
    """Some other classes."""
    return tuple(str(name) for name in rng.choice([name for name in classes if name != class_name], count, replace=False))


def mention(class_name: str, text: str) -> str:
    """The word by which a caption mentions a class, if it does: the longest that stands in it."""
    words = sorted(atlas.load().kind(class_name).words, key=len, reverse=True)
    return next((word for word in words if spans_of(text, word)), "")
