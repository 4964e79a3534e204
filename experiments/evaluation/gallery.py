"""Contact sheets of the best, the median and the worst images of a set."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.client import overlap
from experiments.evaluation import work
from experiments.evaluation.asking import Tokens, target
from experiments.evaluation.best import leaders
from experiments.evaluation.datasets import DATASETS
from experiments.evaluation.images import Made, Studio, studio
from experiments.evaluation.lines import Line, by_dataset
from experiments.evaluation.measure import Heats, cuts
from experiments.evaluation.recipes import PUBLISHED_RECIPE
from experiments.evaluation.settings import Setting, key
from experiments.evaluation.stages import REPORTING, Plan
from experiments.figures import Cell, sheet
from ovam.attention import resize
from ovam.masks import min_max

AROUND = 4  # images of each kind


def draw(plan: Plan, folder: Path) -> None:
    """Write a sheet a set, its images ordered by the IoU of OVAM with learned tokens."""
    shown = [one for one in plan.chosen["generated"] if one.key in shown_keys(plan)]
    tokens = work.read_tokens(tuple(task.path for task in plan.learning()))
    sets = by_dataset(plan.lines())
    for name in REPORTING:
        rows = []
        for title, lines in ordered(sets[name], key("ovam", PUBLISHED_RECIPE)).items():
            cases = [DATASETS[name].case(line["kind"], line["number"]) for line in lines]
            found = studio(plan.model).make(cases, both_halves=any(one.half == "unconditional" for one in shown))
            rows += [cells(studio(plan.model), title, made, shown, tokens) for made in found]
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


def cells(studio: Studio, title: str, made: Made, settings: Sequence[Setting], tokens: Mapping[str, Tokens]) -> list[Cell]:
    """An image, its truth, and heat and mask of some settings."""
    targets = {one.asked: target(studio, one.asked, made.case, tokens) for one in settings}
    heats = Heats.of(made, targets, settings)
    row = [Cell(f"{title}: {made.case.kind}", made.image), Cell("the annotator", made.truth.astype(np.uint8) * 255)]
    for one in settings:
        heat = min_max(resize(heats.heat(one)[None], made.truth.shape)[0]).numpy()
        mask = cuts(heats, one, made, None)[0]
        row.append(Cell(one.asked, (heat * 255).astype(np.uint8), heat=True))
        row.append(Cell(f"{one.name} {overlap(mask, made.truth):.2f}", mask.astype(np.uint8) * 255))
    return row
