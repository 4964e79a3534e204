"""What is kept of an image: a line of JSON with its metadata and the counts of every setting."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.measure import Measurement, as_json
from experiments.evaluation.subjects import Subject

Line = dict[str, Any]
NOTHING = Measurement({}, {}, {})


def line_of(subject: Subject, found: Measurement = NOTHING) -> Line:
    """Everything that is kept of an image; one without a clear object has no counts."""
    spent = {stage: round(time, 4) for stage, time in (subject.seconds | found.seconds).items()}
    area = round(float(subject.truth.mask.mean()), 4)
    metadata = {"area": area, "clear": subject.clear, "seconds": spent}
    return asdict(subject.case) | metadata | {"counts": as_json(found.counts), "heat": found.heat}


def read_lines(paths: Iterable[Path]) -> list[Line]:
    """The lines of several files."""
    return [json.loads(text) for path in paths for text in path.read_text().splitlines()]


def by_dataset(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """The lines of clear images, by data set."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        if line["clear"]:
            found.setdefault(line["dataset"], []).append(line)
    return found


def counts_of(key: str, lines: Iterable[Line]) -> tuple[NDArray[np.int64], list[str]]:
    """A setting's counts (images, thresholds, 2), and the class of every image."""
    measured = [line for line in lines if key in line["counts"]]
    return np.array([line["counts"][key] for line in measured], np.int64), [line["class_name"] for line in measured]


def leakage(lines: Iterable[Line]) -> dict[str, float]:
    """How much of the class's heat other things get, both above the ground's, by target: 0 is none, 1 as much."""
    sums: dict[str, list[float]] = {}
    for line in lines:
        for target, heat in line["heat"].items():
            before = sums.get(target, [0.0, 0.0, 0.0])
            sums[target] = [total + value for total, value in zip(before, heat, strict=True)]
    return {target: (others - ground) / (own - ground) for target, (own, others, ground) in sums.items()}
