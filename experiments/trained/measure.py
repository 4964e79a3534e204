"""Tables 1 and 2 with the trained methods, for the classes of Table 2's columns, at thresholds of the full evaluation."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from experiments.evaluation import claims, paper, summary, work
from experiments.evaluation.lines import by_dataset, read_lines
from experiments.evaluation.scales import REPORTING
from experiments.evaluation.settings import PUBLISHED, Setting, pair, trained
from experiments.evaluation.stages import Plan
from experiments.evaluation.tasks import Task
from ovam import METHODS
from ovam.trained.networks import FOLDER, SUFFIX, read

IMAGES_A_TASK = 5
COST = 15.0  # of an image, where that of a class's token is 200


def settings_of(scores: Mapping[str, Any], networks: Sequence[str]) -> tuple[Setting, ...]:
    """The published methods at the thresholds of an evaluation, and the trained ones whose network is there."""
    chosen = scores["settings"]["generated"]
    attention = [one for name in PUBLISHED for one in pair(name, METHODS[name].words, METHODS[name].tokens)]
    tuned = [one.at(chosen[one.key]["method"]["threshold"]["tau"]) for one in attention]
    return (*tuned, *(one for one in trained() if one.method.network in networks))


@dataclass(frozen=True)
class Measurement:
    """The classes' tokens, then their first images."""

    plan: Plan
    scores: Mapping[str, Any]
    """The evaluation's, for its thresholds."""
    images: int
    """Of every class and set."""

    @property
    def stages(self) -> Mapping[str, Callable[[], list[Task]]]:
        """What is done, one after the other."""
        return {"tokens": self.plan.learning, "images": self.tasks}

    def tasks(self) -> list[Task]:
        """The measurement of images, some a task."""
        return tasks(self.plan, self.scores, self.images)

    def cost(self) -> float:
        """In seconds or so."""
        return sum(task.cost for stage in self.stages.values() for task in stage())


def tasks(plan: Plan, scores: Mapping[str, Any], images: int) -> list[Task]:
    """The measurement of the first images of every class of Table 2's columns, after its tokens were learned."""
    files = tuple(task.path for task in plan.learning())
    settings = {"generated": settings_of(scores, plan.networks)}
    place, found = plan.folder_of_networks("trained", settings, files), []
    for name in REPORTING:
        cases = plan.datasets[name].cases(images, paper.CLASSES)
        for start in range(0, len(cases), IMAGES_A_TASK):
            make = partial(work.images, plan.place, cases[start : start + IMAGES_A_TASK], settings, files, sweep=False)
            found.append(Task(place / f"{name}-{start:04d}.jsonl", COST * IMAGES_A_TASK, make))
    return found


def write(done: Sequence[Task], plan: Plan, source: Mapping[str, Any], path: Path) -> None:
    """Write the results of tasks, in the form of the evaluation's scores, and where they come from."""
    sets = by_dataset(read_lines(task.path for task in done))
    stated = [claim for dataset in REPORTING for claim in claims.of_trained_methods(dataset)]
    content = {
        "provenance": {**source, "classes": paper.CLASSES, "images": {name: len(lines) for name, lines in sets.items()}},
        "scores": {name: summary.scores(lines) for name, lines in sets.items()},
        "claims": [finding.as_json() for finding in claims.findings(stated, sets)],
        "training": {name: read(plan.model / FOLDER / f"{name}{SUFFIX}").card.training for name in plan.networks},
    }
    path.write_text(json.dumps(summary.rounded(content), indent=1) + "\n")
