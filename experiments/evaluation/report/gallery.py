"""Contact sheets of the best, the median and the worst images of a set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.evaluation import work
from experiments.evaluation.backends.backend import Backend, Learned
from experiments.evaluation.best import leaders
from experiments.evaluation.lines import Line, by_dataset
from experiments.evaluation.recipes import PUBLISHED_RECIPE
from experiments.evaluation.scales import REPORTING
from experiments.evaluation.settings import Setting, key
from experiments.evaluation.stages import Plan
from experiments.evaluation.subjects import Subject, overlap
from experiments.evaluation.targets import WORDS
from launcher.sheet import Cell, sheet
from ovam.core.thresholds import min_max

AROUND = 4  # images of each kind


def draw(plan: Plan, folder: Path) -> None:
    """Write a sheet a set, its images ordered by the IoU of OVAM with learned tokens."""
    shown = [one for one in plan.chosen["generated"] if one.key in shown_keys(plan)]
    learned = work.read_learned(tuple(task.path for task in plan.learning()))
    for name, of_set in by_dataset(plan.lines()).items():
        if name not in REPORTING:
            continue
        rows = []
        with work.opened(plan.place) as backend:
            for title, lines in ordered(of_set, key("ovam", PUBLISHED_RECIPE)).items():
                cases = [plan.datasets[name].of_class(line["class_name"])[line["number"]] for line in lines]
                rows += [cells(backend, title, subject, shown, learned) for subject in backend.generate(cases)]
        sheet(rows, folder / f"{name}.png")


def shown_keys(plan: Plan) -> list[str]:
    """OVAM with words and with tokens, and the best settings."""
    return [key("ovam", WORDS), key("ovam", PUBLISHED_RECIPE), *leaders(plan.choices["generated"]).values()]


def ordered(lines: Sequence[Line], by: str) -> dict[str, Sequence[Line]]:
    """The best, the median and the worst images by a setting's IoU."""

    def iou(line: Line) -> float:
        both, either = line["counts"][by][0]
        return both / max(either, 1)

    ranked = sorted((line for line in lines if by in line["counts"]), key=iou, reverse=True)
    middle = len(ranked) // 2
    return {
        "best": ranked[:AROUND],
        "median": ranked[middle - AROUND // 2 : middle - AROUND // 2 + AROUND],
        "worst": ranked[-AROUND:],
    }


def cells(backend: Backend, title: str, subject: Subject, settings: Sequence[Setting], learned: Learned) -> list[Cell]:
    """An image, its truth, and heat and mask of some settings."""
    truth = subject.truth.mask
    answers = backend.answers(subject, learned, masks=settings, heats=settings)
    row = [Cell(f"{title}: {subject.case.class_name}", subject.image), Cell("the truth", truth.astype(np.uint8) * 255)]
    for one in settings:
        mask = answers.mask(one)
        row.append(Cell(one.target, (min_max(answers.heat(one)) * 255).astype(np.uint8), heat=True))
        row.append(Cell(f"{overlap(mask, truth):.2f} {one.name}", mask.astype(np.uint8) * 255))
    return row
