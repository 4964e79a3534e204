"""What a task does: learn tokens, or generate images and measure every setting on them. It returns JSON, a line each."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from experiments.evaluation import learning
from experiments.evaluation.backends import library, service
from experiments.evaluation.backends.backend import Backend, Learned
from experiments.evaluation.datasets import Case
from experiments.evaluation.learning import TooFewImagesError
from experiments.evaluation.lines import Line, line_of
from experiments.evaluation.measure import measured
from experiments.evaluation.recipes import PUBLISHED_RECIPE, REAL_RECIPES, RECIPES, Recipe
from experiments.evaluation.settings import Setting, Settings
from experiments.evaluation.subjects import Subject
from experiments.evaluation.targets import TOKENS_AGAINST_ALL, TargetName

TokenFiles = tuple[Path, ...]


@dataclass(frozen=True)
class Place:
    """Where a model is evaluated, and the word of each class."""

    model: Path
    words: tuple[tuple[str, str], ...]
    """Classes, and the word of each."""
    service: str = ""
    """The URL of a service that is asked; none: the library in this process."""
    source: str = ""
    """How the model was named; none: by its folder."""


@contextmanager
def opened(place: Place) -> Iterator[Backend]:
    """The backend of a place, until the block is left."""
    if not place.service:
        yield library.library(place.model, place.words)
        return
    with service.connected(place.service, place.model, place.source or str(place.model), dict(place.words)) as backend:
        yield backend


def class_tokens(place: Place, class_name: str, recipes: Sequence[Recipe], cases: learning.BySet) -> str:
    """Learn the tokens of one class: from generated images, or from real ones."""
    by_set: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        by_set.setdefault(recipe.dataset, []).append(recipe)
    with opened(place) as backend:
        fits = [partial(learning.learn_class, backend, class_name, several, cases[name]) for name, several in by_set.items()]
        return "".join(_timed(backend, fit) for fit in fits)


def joint_tokens(place: Place, recipe: Recipe, classes: Sequence[str], cases: Mapping[str, Sequence[Case]]) -> str:
    """Learn the tokens of classes together."""
    words = {name: word for name, word in place.words if name in classes}
    with opened(place) as backend:
        return _timed(backend, partial(learning.learn_jointly, backend, recipe, words, cases))


def _timed(backend: Backend, learn: Callable[[], Iterator[Line]]) -> str:
    """Fits as JSON; the first has the time that generating the images took. Nothing is learned without clear images."""
    start = backend.now()
    try:
        found = list(learn())
    except TooFewImagesError:
        return ""
    spent = backend.now() - start - sum(fit["seconds"]["optimisation"] for fit in found)
    found[0]["seconds"]["generation"] = round(spent, 3)
    return as_text(found)


def images(place: Place, cases: Sequence[Case], settings: Mapping[str, Settings], files: TokenFiles, *, sweep: bool) -> str:
    """Generate images and count every setting's mask of them, settings being by group or by data set."""
    learned = read_learned(files)
    with opened(place) as backend:
        return as_text([
            line(backend, subject, settings.get(subject.case.dataset) or settings[subject.case.group], learned, sweep=sweep)
            for subject in backend.generate(cases)
        ])  # fmt: skip


def line(backend: Backend, subject: Subject, settings: Settings, learned: Learned, *, sweep: bool) -> Line:
    """What is kept of one image; settings whose tokens were not learned are left out."""
    if not subject.clear:
        return line_of(subject)
    possible = [one for one in settings if is_learned(one, subject.case.class_name, learned)]
    return line_of(subject, measured(backend, subject, possible, learned, sweep=sweep))


def is_learned(setting: Setting, class_name: str, learned: Learned) -> bool:
    """Whether a setting needs no tokens, or its tokens are there."""
    needed: TargetName = PUBLISHED_RECIPE if setting.target == TOKENS_AGAINST_ALL else setting.target
    return needed not in (*RECIPES, *REAL_RECIPES) or (needed, class_name) in learned


@cache
def read_learned(files: TokenFiles) -> Learned:
    """Everything that was learned."""
    return learning.read_learned(files)


def as_text(lines: Iterable[dict[str, Any]]) -> str:
    """JSON, a line each."""
    return "".join(f"{json.dumps(one)}\n" for one in lines)
