"""Learning tokens by every recipe, from seeds that nothing else uses."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ovam
from experiments.evaluation.asking import Asked, Target, Tokens, plainly
from experiments.evaluation.datasets import DATASETS, GROUND_NAMES, Case, renders
from experiments.evaluation.images import Made, Maker, Studio
from experiments.evaluation.recipes import RENDER_RECIPES, Recipe
from experiments.tinyworld.shapes import CLASS_NAMES
from ovam.tokens import TokenFit

Line = dict[str, Any]  # what is kept of a fit, as JSON
RENDERS_TO_LEARN_FROM = 16  # of every class


class TooFewImagesError(Exception):
    """A class whose images show no clear object."""


def clear_images(studio: Maker, cases: Sequence[Case], wanted: int, *, both_halves: bool = False) -> list[Made]:
    """The first images with a clear object."""
    found: list[Made] = []
    for start in range(0, len(cases), wanted):
        batch = cases[start : start + wanted]
        found += [made for made in studio.make(batch, both_halves=both_halves) if made.clear]
        if len(found) >= wanted:
            return found[:wanted]
    raise TooFewImagesError(f"{cases[0].kind}: {len(found)} of {len(cases)} images are clear, {wanted} are needed")


def of_class(dataset: str, kind: str) -> list[Case]:
    """The images that a class's tokens may be learned from."""
    return [DATASETS[dataset].case(kind, number) for number in range(DATASETS[dataset].images)]


def learn_class(studio: Studio, kind: str, recipes: Iterable[Recipe]) -> Iterator[Line]:
    """Learn a class's tokens by several recipes, making the images of a data set once."""
    by_set: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        by_set.setdefault(recipe.dataset, []).append(recipe)
    for dataset, several in by_set.items():
        wanted = max(recipe.images for recipe in several)
        both = any(recipe.half == "unconditional" for recipe in several)
        made = clear_images(studio, of_class(dataset, kind), wanted, both_halves=both)
        for recipe in several:
            yield fitted(studio, recipe, (kind,), [kind], [(one, one.truth) for one in made[: recipe.images]])


def learn_jointly(studio: Studio, recipe: Recipe) -> Iterator[Line]:
    """Learn the tokens of all classes together, from maps of labels."""
    made = [one for kind in CLASS_NAMES for one in clear_images(studio, of_class(recipe.dataset, kind), recipe.images)]
    examples = [(one, one.labels.astype(np.int64)) for one in made]
    yield fitted(studio, recipe, CLASS_NAMES, list(CLASS_NAMES), examples)


def learn_renders(studio: Studio, kinds: Sequence[str]) -> Iterator[Line]:
    """Learn the tokens of a thing and its parts, or of a ground, from renders that they share."""
    cases = sorted((case for kind in kinds for case in render_cases()[kind]), key=lambda case: case.seed)
    wanted = 2 + max(recipe.images for recipe in RENDER_RECIPES.values())  # a part may be hidden in some
    seeds = sorted({case.seed for case in cases})[:wanted]
    made = studio.make([case for case in cases if case.seed in seeds])
    for kind in kinds:
        clear = [one for one in made if one.clear and one.case.kind == kind]
        word = plainly(clear[0].case)[1]
        for recipe in RENDER_RECIPES.values():
            yield fitted(studio, recipe, (kind,), [word], [(one, one.truth) for one in clear[: recipe.images]])


@cache
def render_cases() -> Mapping[str, list[Case]]:
    """The renders to learn from, by what is learned."""
    found: dict[str, list[Case]] = {}
    for case in renders("tokens", RENDERS_TO_LEARN_FROM):
        found.setdefault(case.kind, []).append(case)
    return found


def render_kinds() -> list[list[str]]:
    """What is learned together from the same renders: a thing and its parts, or a ground."""
    kinds = list(render_cases())
    things = [[kind for kind in kinds if kind.split("/")[0] == name] for name in CLASS_NAMES]
    return [*things, *([name] for name in GROUND_NAMES if name in kinds)]


def fitted(
    studio: Studio, recipe: Recipe, kinds: Sequence[str], words: list[str], examples: Sequence[tuple[Made, np.ndarray]]
) -> Line:
    """Learn tokens and tell how it went."""
    start = time.process_time()
    fit = ovam.optimize_tokens(
        [(made.traces[recipe.half], mask) for made, mask in examples],
        ovam.initial_tokens(studio.pipeline, *words),
        optimizer=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        schedule=recipe.schedule,
        epochs=recipe.epochs,
    )
    return told(recipe, kinds, examples, fit, time.process_time() - start)


def told(
    recipe: Recipe, kinds: Sequence[str], examples: Sequence[tuple[Made, np.ndarray]], fit: TokenFit, seconds: float
) -> Line:
    """A fit as JSON."""
    return {
        "recipe": recipe.name,
        "kinds": list(kinds),
        "examples": [{"prompt": made.case.prompt, "seed": made.case.seed} for made, _ in examples],
        "rows": fit.embedding.tolist(),
        "loss": [round(loss, 5) for loss in (fit.losses[0], fit.best_loss)],
        "best epoch": fit.best_epoch,
        "ended": fit.ended,
        "seconds": {"optimisation": round(seconds, 3)},
    }


def read_tokens(files: Iterable[Path]) -> dict[Asked, Tokens]:
    """Everything that was learned, by recipe and by what it was learned for."""
    found: dict[Asked, dict[str, Target]] = {}
    for line in (json.loads(text) for file in files for text in file.read_text().splitlines()):
        rows = torch.tensor(line["rows"])
        for index, kind in enumerate(line["kinds"]):
            found.setdefault(line["recipe"], {})[kind] = Target(rows, (1 + index,))
    return dict(found)
