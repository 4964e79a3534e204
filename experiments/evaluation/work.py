"""What a task does: learn tokens, or make images and measure every setting on them. Its answer is JSON, a line each."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from experiments.evaluation import learning
from experiments.evaluation.datasets import Case
from experiments.evaluation.images import Made
from experiments.evaluation.lines import Line, line_of
from experiments.evaluation.measure import measured
from experiments.evaluation.recipes import Recipe
from experiments.evaluation.settings import Settings
from experiments.evaluation.studios import in_process, over_http
from experiments.evaluation.studios.studio import Learned, Studio

TokenFiles = tuple[Path, ...]


@dataclass(frozen=True)
class Place:
    """Where a model is asked, and which words its classes have."""

    model: Path
    words: tuple[tuple[str, str], ...]
    """Classes, and the word of each."""
    service: str = ""
    """The URL of a service that is asked; none: the model is loaded in process."""
    source: str = ""
    """How the model was named; none: by its folder."""


@contextmanager
def opened(place: Place) -> Iterator[Studio]:
    """The studio of a place, until the block is left."""
    if not place.service:
        yield in_process.studio(place.model, place.words)
        return
    with over_http.connected(place.service, place.model, place.source or str(place.model), dict(place.words)) as studio:
        yield studio


def class_tokens(place: Place, kind: str, recipes: Sequence[Recipe], cases: learning.ByDataset) -> str:
    """Learn the tokens of one class."""
    with opened(place) as studio:
        return _timed(studio, learning.learn_class(studio, kind, recipes, cases))


def joint_tokens(place: Place, recipe: Recipe, kinds: Sequence[str]) -> str:
    """Learn the tokens of classes together."""
    with opened(place) as studio:
        return _timed(studio, learning.learn_jointly(studio, recipe, kinds))


def render_tokens(place: Place, kinds: Sequence[str], recipes: Sequence[Recipe]) -> str:
    """Learn the tokens of a thing and its parts, or of a ground."""
    with opened(place) as studio:
        return _timed(studio, learning.learn_renders(studio, kinds, recipes))


def _timed(studio: Studio, fits: Iterable[dict[str, Any]]) -> str:
    """Fits as JSON; what they took beside optimisation, which is making the images, is told in the first."""
    start = studio.now()
    found = list(fits)
    spent = studio.now() - start - sum(fit["seconds"]["optimisation"] for fit in found)
    found[0]["seconds"]["generation"] = round(spent, 3)
    return as_text(found)


def images(place: Place, cases: Sequence[Case], settings: Mapping[str, Settings], files: TokenFiles, *, sweep: bool) -> str:
    """Make images and count every setting's mask of them, settings being by group or by data set."""
    learned = read_learned(files)
    of_cases = {case: settings.get(case.dataset) or settings[case.group] for case in cases}
    both = any(setting.half == "unconditional" for several in of_cases.values() for setting in several)
    with opened(place) as studio:
        made = studio.make(cases, both_halves=both)
        return as_text([line(studio, one, of_cases[one.case], learned, sweep=sweep) for one in made])


def line(studio: Studio, made: Made, settings: Settings, learned: Learned, *, sweep: bool) -> Line:
    """What is kept of one image."""
    if not made.clear:
        return line_of(made, {}, {}, {})
    return line_of(made, *measured(studio, made, settings, learned, sweep=sweep))


@cache
def read_learned(files: TokenFiles) -> Learned:
    """Everything that was learned."""
    return learning.read_learned(files)


def as_text(lines: Iterable[dict[str, Any]]) -> str:
    """JSON, a line each."""
    return "".join(f"{json.dumps(one)}\n" for one in lines)
