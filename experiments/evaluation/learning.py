"""Learning tokens by every recipe, from seeds that nothing else uses."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from experiments.evaluation.asking import plainly
from experiments.evaluation.datasets import DATASETS, GROUND_NAMES, Case, renders
from experiments.evaluation.images import Made
from experiments.evaluation.recipes import Recipe
from experiments.evaluation.studios.studio import Examples, Learned, Studio, Words
from experiments.tinyworld.shapes import CLASS_NAMES
from ovam.semantic import IGNORE

Line = dict[str, Any]  # what is kept of a fit, as JSON
ByDataset = Mapping[str, Sequence[Case]]
RENDERS_TO_LEARN_FROM = 16  # of every class


class TooFewImagesError(Exception):
    """A class whose images show no clear object."""


def clear_images(studio: Studio, cases: Sequence[Case], wanted: int, *, both_halves: bool = False) -> list[Made]:
    """The first images with a clear object."""
    found: list[Made] = []
    for start in range(0, len(cases), wanted):
        batch = cases[start : start + wanted]
        found += [made for made in studio.make(batch, both_halves=both_halves) if made.clear]
        if len(found) >= wanted:
            return found[:wanted]
    raise TooFewImagesError(f"{cases[0].kind}: {len(found)} of {len(cases)} images are clear, {wanted} are needed")


def learn_class(studio: Studio, kind: str, recipes: Iterable[Recipe], cases: ByDataset) -> Iterator[Line]:
    """Learn a class's tokens by several recipes from the cases of their data sets, making the images of each once."""
    by_set: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        by_set.setdefault(recipe.dataset, []).append(recipe)
    for dataset, several in by_set.items():
        wanted = max(recipe.images for recipe in several)
        both = any(recipe.half == "unconditional" for recipe in several)
        made = clear_images(studio, cases[dataset], wanted, both_halves=both)
        for recipe in several:
            words = {kind: plainly(made[0].case)[1]}
            yield fitted(studio, recipe, words, [(one, one.truth) for one in made[: recipe.images]])


def learn_jointly(studio: Studio, recipe: Recipe, kinds: Sequence[str]) -> Iterator[Line]:
    """Learn the tokens of classes together, from maps of labels in which other classes do not count."""
    made = [one for kind in kinds for one in clear_images(studio, DATASETS[recipe.dataset].of_kind(kind), recipe.images)]
    labels = np.full(1 + len(CLASS_NAMES), IGNORE, np.uint8)
    labels[0] = 0
    for index, kind in enumerate(kinds, start=1):
        labels[1 + CLASS_NAMES.index(kind)] = index
    yield fitted(studio, recipe, {kind: kind for kind in kinds}, [(one, labels[one.labels]) for one in made])


def learn_renders(studio: Studio, kinds: Sequence[str], recipes: Sequence[Recipe]) -> Iterator[Line]:
    """Learn the tokens of a thing and its parts, or of a ground, from renders that they share."""
    cases = sorted((case for kind in kinds for case in render_cases()[kind]), key=lambda case: case.seed)
    wanted = 2 + max(recipe.images for recipe in recipes)  # a part may be hidden in some
    seeds = sorted({case.seed for case in cases})[:wanted]
    made = studio.make([case for case in cases if case.seed in seeds])
    for kind in kinds:
        clear = [one for one in made if one.clear and one.case.kind == kind]
        words = {kind: plainly(clear[0].case)[1]}
        for recipe in recipes:
            yield fitted(studio, recipe, words, [(one, one.truth) for one in clear[: recipe.images]])


@cache
def render_cases() -> Mapping[str, list[Case]]:
    """The renders to learn from, by what is learned."""
    found: dict[str, list[Case]] = {}
    for case in renders("tokens", RENDERS_TO_LEARN_FROM):
        found.setdefault(case.kind, []).append(case)
    return found


def render_kinds(wanted: Collection[str]) -> list[list[str]]:
    """What of the wanted is learned together from the same renders: a thing and its parts, or a ground."""
    kinds = [kind for kind in render_cases() if kind in wanted]
    things = [[kind for kind in kinds if kind.split("/")[0] == name] for name in CLASS_NAMES]
    return [each for each in (*things, *([name] for name in GROUND_NAMES if name in kinds)) if each]


def fitted(studio: Studio, recipe: Recipe, words: Words, examples: Examples) -> Line:
    """Learn tokens and tell how it went."""
    start = studio.now()
    fit = studio.learn(recipe, words, examples)
    seconds = studio.now() - start
    return {
        "recipe": recipe.name,
        "kinds": list(words),
        "examples": [{"prompt": made.case.prompt, "seed": made.case.seed} for made, _ in examples],
        **fit,
        "loss": [round(loss, 5) for loss in fit["loss"]],
        "seconds": {"optimisation": round(seconds, 3)},
    }


def read_learned(files: Iterable[Path]) -> Learned:
    """Everything that was learned, by recipe and by what it was learned for."""
    lines = [json.loads(text) for file in files for text in file.read_text().splitlines()]
    return {(line["recipe"], kind): line for line in lines for kind in line["kinds"]}
