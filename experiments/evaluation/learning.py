"""Learning tokens by every recipe, from seeds that nothing else uses."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.evaluation.backends.backend import Backend, Examples, Learned, Words
from experiments.evaluation.datasets import Case
from experiments.evaluation.recipes import Recipe
from experiments.evaluation.subjects import Subject
from ovam.core.label_maps import IGNORE

Line = dict[str, Any]  # what is kept of a fit, as JSON
BySet = Mapping[str, Sequence[Case]]


class TooFewImagesError(Exception):
    """A class whose images show no clear object."""


def clear_images(backend: Backend, cases: Sequence[Case], wanted: int) -> list[Subject]:
    """The first images with a clear object: as many as are wanted, or all there are. TooFewImagesError for none."""
    found: list[Subject] = []
    for start in range(0, len(cases), wanted):
        found += [subject for subject in backend.generate(cases[start : start + wanted]) if subject.clear]
        if len(found) >= wanted:
            return found[:wanted]
    if not found:
        raise TooFewImagesError(f"no image of {len(cases)} shows a clear {cases[0].class_name}, so its token cannot be learned")
    return found


def learn_class(backend: Backend, class_name: str, recipes: Sequence[Recipe], cases: Sequence[Case]) -> Iterator[Line]:
    """Learn a class's tokens by several recipes from the same images, generating them once."""
    subjects = clear_images(backend, cases, max(recipe.images for recipe in recipes))
    for recipe in recipes:
        words = {class_name: subjects[0].case.word}
        yield fitted(backend, recipe, words, [(one, one.truth.mask) for one in subjects[: recipe.images]])


def learn_jointly(backend: Backend, recipe: Recipe, words: Words, cases: Mapping[str, Sequence[Case]]) -> Iterator[Line]:
    """Learn the tokens of classes together, from maps of labels in which other things do not count."""
    subjects = {name: found for name in words if (found := clear_or_none(backend, cases[name], recipe.images))}
    if not subjects:
        raise TooFewImagesError("no class has a clear image")
    examples = []
    for row, several in enumerate(subjects.values(), start=1):
        for subject in several:
            labels = np.where(subject.truth.labels == 0, 0, IGNORE).astype(np.uint8)
            labels[subject.truth.mask] = row
            examples.append((subject, labels))
    yield fitted(backend, recipe, {name: words[name] for name in subjects}, examples)


def clear_or_none(backend: Backend, cases: Sequence[Case], wanted: int) -> list[Subject]:
    """The first images with a clear object, perhaps none."""
    try:
        return clear_images(backend, cases, wanted)
    except TooFewImagesError:
        return []


def fitted(backend: Backend, recipe: Recipe, words: Words, examples: Examples) -> Line:
    """Learn tokens and describe how it went."""
    start = backend.now()
    fit = backend.learn(recipe, words, examples)
    seconds = backend.now() - start
    return {
        "recipe": recipe.name,
        "classes": list(words),
        "examples": [{"prompt": subject.case.prompt, "seed": subject.case.seed} for subject, _ in examples],
        **fit,
        "loss": [round(loss, 5) for loss in fit["loss"]],
        "seconds": {"optimisation": round(seconds, 3)},
    }


def read_learned(files: Iterable[Path]) -> Learned:
    """Everything that was learned, by recipe and by class."""
    lines = [json.loads(text) for file in files for text in file.read_text().splitlines()]
    return {(line["recipe"], class_name): line for line in lines for class_name in line["classes"]}
