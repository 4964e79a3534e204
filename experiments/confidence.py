"""How sure is a mask? `python -m experiments confidence` compares agreements of masks with true masks.

Calibrations are fitted on tuning seeds and written to the model's card; the page and its diagram, docs/method/confidence.svg,
show reporting seeds alone. Truth is the annotator's for generated images, and exact for renders, which stand for real ones.
Images without the thing count, too: there the IoU is 0.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from scipy.stats import spearmanr

import ovam
from contracts.rules.targets import changes_of
from contracts.schema.models import BestMethod, MaskCalibration
from experiments.evaluation.backends.heatmaps import required
from experiments.evaluation.backends.library import library
from experiments.evaluation.backends.models import CARD
from experiments.evaluation.datasets import Case, sets_of
from experiments.evaluation.defaults import as_text
from experiments.evaluation.scales import REAL_REPORTING, REAL_TUNING, REPORTING, TUNING
from experiments.evaluation.subjects import overlap
from experiments.evaluation.tasks import Task
from experiments.evaluation.work import Place
from experiments.evaluation.world import world_of
from ovam import METHODS, Method
from ovam.attention.targets import photograph_of
from ovam.core.confidence import Calibration, calibrated

Json = dict[str, Any]
SOURCES: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "generate": (TUNING, REPORTING),
    "image": (REAL_TUNING, REAL_REPORTING),
}
"""The kinds of job, as cards name them, with the sets that are tuned on and reported."""
DEFAULT = "default"
FEWEST = 40, 20  # masks that a calibration is fitted to, and those that it is tested on
A_POINT, POINTS, BINS = 8, 10, 5  # masks that a point of a calibration stands for at least; points at most; groups of the diagram


def methods_of(model: Path) -> dict[str, Method]:
    """How words are looked for: by the model's own best settings, and by the published methods."""
    card = json.loads((model / CARD).read_text()) if (model / CARD).is_file() else {}
    best = BestMethod.model_validate(card.get("word_defaults", {}))
    own = TypeAdapter(Method).validate_python({**asdict(METHODS[best.method].words), **changes_of(best.settings)})
    return {DEFAULT: own, **{name: METHODS[name].words for name in METHODS}}


def measured(place: Place, case: Case) -> str:
    """Find the class of a case by every method; of each mask its agreement, its score, and its IoU with the true one."""
    backend, methods = library(place.model, place.words), methods_of(place.model)
    (subject,) = backend.generate([case])
    targets = [photograph_of(case.word)] * len(methods)
    trace = required(subject.trace)
    found = ovam.segment(trace, backend.pipeline, targets, [*methods.values()], subject.image, confidence=True)
    numbers = {
        name: [each.confidence.agreement, each.score, overlap(each.mask, subject.truth.mask)]
        for name, each in zip(methods, found, strict=True)
        if each.confidence
    }
    return json.dumps({"dataset": case.dataset, "class": case.class_name, "number": case.number, "found": numbers}) + "\n"


def tasks(place: Place, work: Path, images: int) -> list[Task]:
    """A task for each image, sets and classes in turn so that every beginning is balanced; generated images first."""
    sets, names = sets_of(world_of(place.model)), [name for name, _ in place.words]
    wanted = [[*chain(*each)] for each in SOURCES.values()]
    cases = (
        sets[name].case(each, number) for several in wanted for number in range(images) for each in names for name in several
    )
    return [Task(work / f"{case.name.replace(' ', '-')}.json", 1, partial(measured, place, case)) for case in cases]


def read(work: Path) -> list[Json]:
    """What was measured so far."""
    return [json.loads(path.read_text()) for path in sorted(work.glob("*.json"))]


def summed_up(lines: Sequence[Json], model: Path) -> list[Json]:
    """For each kind of image and method: the calibration of the tuning sets, and how it does on the reporting ones."""
    return [one for source in SOURCES for name in methods_of(model) if (one := row(lines, source, name))]


def row(lines: Sequence[Json], source: str, name: str) -> Json | None:
    """Fit one calibration and test it; none where too few were measured."""
    tuning, reporting = (np.array([*numbers(lines, sets, name)]) for sets in SOURCES[source])
    if len(tuning) < FEWEST[0] or len(reporting) < FEWEST[1]:
        return None
    curve = calibrated(tuning[:, 0].tolist(), tuning[:, 2].tolist(), points=min(POINTS, len(tuning) // A_POINT))
    expected = np.array([curve.iou_at(each) for each in reporting[:, 0]])
    actual, order = reporting[:, 2], np.argsort(reporting[:, 0], kind="stable")
    groups = np.array_split(np.argsort(expected, kind="stable"), BINS)
    bins = [
        {"masks": len(one), "expected": expected[one].mean(), "iou": actual[one].mean(), "sem": sem(actual[one])}
        for one in groups
    ]
    least = order[: max(1, len(order) // 5)]
    return {
        "images": source,
        "method": name,
        "masks": [len(tuning), len(reporting)],
        "calibration": asdict(curve),
        "bins": bins,
        "error": sum(one["masks"] * abs(one["expected"] - one["iou"]) for one in bins) / len(reporting),
        "constant": float(np.abs(tuning[:, 2].mean() - actual).mean()),
        "off": float(np.abs(expected - actual).mean()),
        "order": {"agreement": rank(reporting[:, 0], actual), "score": rank(reporting[:, 1], actual)},
        "iou": {"all": float(actual.mean()), "least sure fifth": float(actual[least].mean())},
    }


def numbers(lines: Sequence[Json], sets: Sequence[str], name: str) -> Iterator[list[float]]:
    """Agreement, score and IoU of a method's masks in some sets."""
    return (line["found"][name] for line in lines if line["dataset"] in sets and name in line["found"])


def rank(values: np.ndarray, ious: np.ndarray) -> float:
    """Spearman's rank correlation: 1 where they order masks alike."""
    return float(spearmanr(values, ious).statistic)


def sem(values: np.ndarray) -> float:
    """The standard error of a mean."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def adopt(rows: Sequence[Json], model: Path) -> None:
    """Write the calibrations to the model's card."""
    path, methods = model / CARD, methods_of(model)
    known = [
        MaskCalibration(
            images=one["images"],
            targets="words",
            settings=methods[one["method"]],
            calibration=Calibration(**{name: tuple(points) for name, points in one["calibration"].items()}),
        ).model_dump(mode="json")
        for one in rows
    ]
    card = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(as_text({**card, "calibrations": known}))
