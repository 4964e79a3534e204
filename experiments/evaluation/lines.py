"""What is kept of an image: a line of JSON with its metadata and the counts of every setting."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.images import Made, Seconds
from experiments.evaluation.measure import Counts, as_json

Line = dict[str, Any]


def line_of(made: Made, counts: Mapping[str, Counts], warmth: Mapping[str, list[float]], seconds: Seconds) -> Line:
    """Everything that is kept of an image; one without a clear object has no counts."""
    spent = {stage: round(time, 4) for stage, time in (made.seconds | seconds).items()}
    metadata = {"share of the image": round(float(made.truth.mean()), 4), "clear": made.clear, "seconds": spent}
    return asdict(made.case) | metadata | {"counts": as_json(counts), "heat": warmth}


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
    """A setting's counts (images, thresholds, 2), and what was looked for in every image."""
    measured = [line for line in lines if key in line["counts"]]
    return np.array([line["counts"][key] for line in measured], np.int64), [line["kind"] for line in measured]
