"""The world of open art, 128x128: Pascal VOC's classes and more, as sprites of open emoji sets; one style is held out."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from experiments.evaluation.worlds.hashes import hash_of
from experiments.evaluation.worlds.world import Caption, ClassWords, Labels, Picture, RealImage, Vocabulary, WorldError
from experiments.world import atlas
from experiments.world.annotator import FIRST, MODELS, SECOND, Annotator
from experiments.world.captions import caption
from experiments.world.render import EVALUATION_CAPTIONS, EVALUATION_RENDERS
from experiments.world.scene import HELD_OUT, START, WORLD, Recipe, classes_of, draw, sample
from ovam.core.words import spans_of

RECIPES = {recipe.name: recipe for recipe in (START, WORLD)}
OTHERS = ((1, 2), (0.75, 0.25))  # how many other things a caption's scene has, and how often
TRIES = 100  # until a caption may mention the class as it likes: no sprite of the recipe may be called by a synonym


@dataclass(frozen=True)
class Emoji:
    """Pascal VOC's twenty classes among the things that a recipe draws."""

    recipe: Recipe = START
    """What the model was trained on."""
    name = "emoji"

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Pascal VOC's classes."""
        kinds = atlas.load().kinds.values()
        return tuple(ClassWords(kind.name, kind.words[0], (*kind.words, "")[1]) for kind in kinds if kind.voc)

    def label(self, class_name: str) -> int:
        """A class's label."""
        return atlas.load().classes.index(class_name) + 1

    def caption(self, class_name: str, seed: int) -> Caption:
        """Describe a scene of the class and one or two other things, as the captions of the training do."""
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
        raise WorldError(f"no caption of {10 * TRIES} mentions {class_name} beside something else")

    def annotate(self, image: Picture) -> Labels:
        """The first annotator's labels."""
        return annotator(FIRST).labels(image[None])[0]

    def annotate_again(self, image: Picture) -> Labels | None:
        """The second annotator's labels, if it is there."""
        return annotator(SECOND).labels(image[None])[0] if SECOND in present() else None

    def annotator_hashes(self) -> tuple[str, ...]:
        """The annotators' hashes."""
        if FIRST not in present():
            raise WorldError(
                f"the annotator {MODELS / FIRST}.safetensors is not there; experiments.world.annotator_training makes it"
            )
        return tuple(hash_of([MODELS / f"{name}.safetensors"]) for name in present())

    def annotator_errors(self) -> dict[str, float]:
        """The annotators' mIoU on unseen scenes, as their reports have it."""
        reports = {name: MODELS / f"{name}.json" for name in present()}
        told = {name: json.loads(report.read_text()) for name, report in reports.items() if report.is_file()}
        return {
            f"{name} on unseen {what} scenes": value["mIoU"]
            for name, report in told.items()
            for what, value in report.items()
            if isinstance(value, dict)
        }

    def real_image(self, class_name: str, seed: int, things: int) -> RealImage:
        """Draw things of the style that neither model nor annotators have seen."""
        rng = np.random.default_rng((EVALUATION_RENDERS, seed))
        recipe = replace(HELD_OUT, twins=0.0)
        drawable = [name for name in classes_of(self.recipe) if name in classes_of(recipe)]
        other = others(rng, class_name, things - 1, drawable)
        drawing = draw(sample(rng, recipe, (class_name, *other)))
        return RealImage(drawing.image, drawing.labels(), tuple(atlas.load().kind(name).words[0] for name in other))


def check_atlas(version: str) -> None:
    """Raise WorldError for weights of another atlas."""
    try:
        atlas.check(version)
    except atlas.AtlasError as error:
        raise WorldError(str(error)) from error


@cache
def annotator(name: str) -> Annotator:
    """An annotator of this process."""
    try:
        return Annotator.load(name, MODELS)
    except atlas.AtlasError as error:
        raise WorldError(str(error)) from error


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
