"""Contact sheets of the best, the median and the worst images of a set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.client import overlap
from experiments.evaluation import work
from experiments.evaluation.best import leaders
from experiments.evaluation.images import Made
from experiments.evaluation.lines import Line, by_dataset
from experiments.evaluation.recipes import PUBLISHED_RECIPE
from experiments.evaluation.scales import REPORTING
from experiments.evaluation.settings import Setting, key
from experiments.evaluation.stages import Plan
from experiments.evaluation.studios.studio import Learned, Studio
from experiments.figures import Cell, sheet
from ovam.masks import min_max

AROUND = 4  # images of each kind


def draw(plan: Plan, folder: Path) -> None:
    """Write a sheet a set, its images ordered by the IoU of OVAM with learned tokens."""
    shown = [one for one in plan.chosen["generated"] if one.key in shown_keys(plan)]
    learned = work.read_learned(tuple(task.path for task in plan.learning()))
    both_halves = any(one.half == "unconditional" for one in shown)
    for name, of_set in by_dataset(plan.lines()).items():
        if name not in REPORTING:
            continue
        rows = []
        with work.opened(plan.place) as studio:
            for title, lines in ordered(of_set, key("ovam", PUBLISHED_RECIPE)).items():
                cases = [plan.datasets[name].of_kind(line["kind"])[line["number"]] for line in lines]
                rows += [cells(studio, title, made, shown, learned) for made in studio.make(cases, both_halves=both_halves)]
        sheet(rows, folder / f"{name}.png")


def shown_keys(plan: Plan) -> list[str]:
    """OVAM with words and with tokens, and the best settings."""
    return [key("ovam", "words"), key("ovam", PUBLISHED_RECIPE), *leaders(plan.choices["generated"]).values()]


def ordered(lines: Sequence[Line], by: str) -> dict[str, Sequence[Line]]:
    """The best, the median and the worst images by a setting's IoU."""

    def iou(line: Line) -> float:
        both, either = line["counts"][by][0]
        return both / max(either, 1)

    ranked = sorted(lines, key=iou, reverse=True)
    middle = len(ranked) // 2
    return {
        "best": ranked[:AROUND],
        "median": ranked[middle - AROUND // 2 : middle - AROUND // 2 + AROUND],
        "worst": ranked[-AROUND:],
    }


def cells(studio: Studio, title: str, made: Made, settings: Sequence[Setting], learned: Learned) -> list[Cell]:
    """An image, its truth, and heat and mask of some settings."""
    heats = studio.look(made, learned, masks=settings, heats=settings)
    row = [Cell(f"{title}: {made.case.kind}", made.image), Cell("the truth", made.truth.astype(np.uint8) * 255)]
    for one in settings:
        mask = heats.mask(one)
        row.append(Cell(one.asked, (min_max(heats.heat(one)).numpy() * 255).astype(np.uint8), heat=True))
        row.append(Cell(f"{overlap(mask, made.truth):.2f} {one.name}", mask.astype(np.uint8) * 255))
    return row
