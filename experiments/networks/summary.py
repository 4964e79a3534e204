"""What Table 3's trainings say together: means and intervals over seeds, differences on the same seeds, and verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from experiments.evaluation.report.segmentation import LEARNED
from experiments.evaluation.scores import Interval
from experiments.networks.examples import VOC
from experiments.networks.scoring import class_ious, mean_iou, over_seeds
from experiments.networks.table3 import (
    AGAIN,
    FULL,
    HALF_REAL,
    REAL,
    ROWS,
    SYNTHETIC,
    TENTH,
    THEN_ALL,
    THEN_HALF,
    Plan,
    second,
)
from experiments.networks.training import RECIPES

Line = Mapping[str, Any]
Verdict = Literal["holds", "does not hold", "not decided"]
SECOND = [{name: second(name, rate) for name in (THEN_HALF, THEN_ALL, AGAIN)} for rate in (TENTH, FULL)]
"""The second stages at each rate."""
COMPARED = [
    (SYNTHETIC, REAL),
    *(pair for rows in SECOND for pair in ((rows[THEN_HALF], REAL), (rows[THEN_ALL], REAL), (rows[THEN_ALL], rows[AGAIN]))),
]
"""Rows whose difference is told: of the same seeds, one by one."""


def summed_up(lines: Sequence[Line]) -> dict[str, Any]:
    """Everything, by network."""
    networks = dict.fromkeys(line["network"] for line in lines)
    return {name: of_network([line for line in lines if line["network"] == name]) for name in networks}


def described(plan: Plan) -> dict[str, Any]:
    """How much was trained, how, and on what."""
    recipes = {name: asdict(one) for name, one in RECIPES[plan.course.size].items()}
    data = {
        "synthetic": plan.data.synthetic,
        "real": plan.data.real,
        "half": plan.data.of(HALF_REAL),
        "validation": plan.data.validation,
    }
    return {
        "course": {**asdict(plan.course), "batch": plan.course.batch, "recipes": recipes},
        "data": {name: len(one) for name, one in data.items()},
    }


def of_network(lines: Sequence[Line]) -> dict[str, Any]:
    """Its rows, and how they differ."""
    rows = {row: [line for line in lines if line["row"] == row] for row in ROWS}
    values = {row: {line["seed"]: mean_iou(np.array(line["confusion"])) for line in several} for row, several in rows.items()}
    objects = mean_of([iou for line in rows[REAL] for iou in class_ious(np.array(line["confusion"]))[1:]]) or 0.0
    return {
        "parameters": lines[0]["parameters"],
        "objects": objects,
        "learned": objects >= LEARNED,
        "rows": {row: of_row(several) for row, several in rows.items() if several},
        "differences": {f"{one} over {other}": asdict(paired(values[one], values[other])) for one, other in COMPARED},
        "aims": [aims(values, rows, learned=objects >= LEARNED) for rows in SECOND],
    }


def aims(values: Mapping[str, Mapping[int, float]], rows: Mapping[str, str], *, learned: bool) -> dict[str, Any]:
    """What second stages at one rate say of the paper's two claims."""
    half, whole = (paired(values[rows[name]], values[REAL]) for name in (THEN_HALF, THEN_ALL))
    return {
        "rate": ROWS[rows[THEN_ALL]].rate,
        "reaches": reaches(half) if learned else "not decided",
        "reaches by": half.value,
        "beats": beats(whole) if learned else "not decided",
        "beats by": whole.value,
    }


def of_row(lines: Sequence[Line]) -> dict[str, Any]:
    """The mIoU of a row and every class's IoU."""
    ious = [class_ious(np.array(line["confusion"])) for line in lines]
    by_class = zip(("background", *VOC), zip(*ious, strict=True), strict=True)
    return {
        "images": lines[0]["images"],
        "miou": asdict(over_seeds([mean_iou(np.array(line["confusion"])) for line in lines])),
        "by seed": {str(line["seed"]): mean_iou(np.array(line["confusion"])) for line in lines},
        "by class": {name: mean_of(several) for name, several in by_class},
        "seconds": float(np.mean([line["seconds"]["all"] for line in lines])),
        "last loss": [line["losses"][-1] for line in lines],
    }


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of a class's IoU over the seeds that have it."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Interval:
    """By how much one row is better than another, on the seeds that both have."""
    return over_seeds([one[seed] - other[seed] for seed in one if seed in other])


def reaches(difference: Interval) -> Verdict:
    """Whether a row reaches another within the interval: it holds unless all of the interval is below 0."""
    return "does not hold" if difference.high < 0 else "not decided" if difference.low <= -1 else "holds"


def beats(difference: Interval) -> Verdict:
    """Whether a row beats another: all of the interval is above 0."""
    return "holds" if difference.low > 0 else "does not hold" if difference.high <= 0 else "not decided"
