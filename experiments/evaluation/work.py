"""What a task does: learn tokens, or make images and measure every setting on them. Its answer is JSON, a line each."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from experiments.evaluation import learning
from experiments.evaluation.asking import Asked, Tokens, target
from experiments.evaluation.datasets import Case
from experiments.evaluation.images import Made, Studio, studio
from experiments.evaluation.lines import Line, line_of
from experiments.evaluation.measure import measured
from experiments.evaluation.recipes import Recipe
from experiments.evaluation.settings import Settings

TokenFiles = tuple[Path, ...]


def class_tokens(model: Path, kind: str, recipes: Sequence[Recipe], cases: learning.ByDataset) -> str:
    """Learn the tokens of one class."""
    return _timed(learning.learn_class(studio(model), kind, recipes, cases))


def joint_tokens(model: Path, recipe: Recipe) -> str:
    """Learn the tokens of all classes together."""
    return _timed(learning.learn_jointly(studio(model), recipe))


def render_tokens(model: Path, kinds: Sequence[str]) -> str:
    """Learn the tokens of a thing and its parts, or of a ground."""
    return _timed(learning.learn_renders(studio(model), kinds))


def _timed(fits: Iterable[dict[str, Any]]) -> str:
    """Fits as JSON; what they took beside optimisation, which is making the images, is told in the first."""
    start = time.process_time()
    found = list(fits)
    spent = time.process_time() - start - sum(fit["seconds"]["optimisation"] for fit in found)
    found[0]["seconds"]["generation"] = round(spent, 3)
    return as_text(found)


def images(model: Path, cases: Sequence[Case], settings: Mapping[str, Settings], files: TokenFiles, *, sweep: bool) -> str:
    """Make images and count every setting's mask of them, settings being by group or by data set."""
    found, tokens = studio(model), read_tokens(files)
    everything = [setting for several in settings.values() for setting in several]
    both = any(setting.half == "unconditional" for setting in everything)
    return as_text(
        line(found, made, settings.get(made.case.dataset) or settings[made.case.group], tokens, sweep=sweep)
        for made in found.make(cases, both_halves=both)
    )


def line(studio: Studio, made: Made, settings: Settings, tokens: Mapping[Asked, Tokens], *, sweep: bool) -> Line:
    """What is kept of one image."""
    if not made.clear:
        return line_of(made, {}, {}, {})
    targets = {asked: target(studio, asked, made.case, tokens) for asked in dict.fromkeys(one.asked for one in settings)}
    return line_of(made, *measured(made, targets, settings, sweep=sweep))


@cache
def read_tokens(files: TokenFiles) -> dict[Asked, Tokens]:
    """Everything that was learned."""
    return learning.read_tokens(files)


def as_text(lines: Iterable[dict[str, Any]]) -> str:
    """JSON, a line each."""
    return "".join(f"{json.dumps(one)}\n" for one in lines)
