"""The rule by which thresholds are chosen: of a grid, the one with the highest mean IoU over the tuning sets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from experiments.evaluation.lines import Line, by_dataset, counts_of
from experiments.evaluation.scores import mean_iou
from experiments.evaluation.settings import Setting


@dataclass(frozen=True)
class Choice:
    """A setting's threshold and what it gave on the tuning sets."""

    tau: float
    miou: float
    """Mean over the sets."""
    by_set: dict[str, float]


def choices(settings: Iterable[Setting], lines: Iterable[Line]) -> dict[str, Choice]:
    """The thresholds of all settings that were measured; one that is not tuned keeps its own."""
    sets = by_dataset(lines)
    found = {}
    for setting in settings:
        measured = {name: of_set for name, of_set in sets.items() if any(setting.key in line["counts"] for line in of_set)}
        if measured:
            found[setting.key] = choose(setting, measured)
    return found


def choose(setting: Setting, lines: Mapping[str, list[Line]]) -> Choice:
    """The threshold of a setting from the lines of every tuning set; among equals the lowest."""
    by_set = {name: _mious(setting, of_set) for name, of_set in lines.items()}
    means = np.mean(list(by_set.values()), axis=0)
    best = int(means.argmax())
    return Choice(setting.grid[best], float(means[best]), {name: float(mious[best]) for name, mious in by_set.items()})


def _mious(setting: Setting, lines: list[Line]) -> np.ndarray:
    """The mean IoU of a set at every threshold."""
    counts, classes = counts_of(setting.key, lines)
    return np.array([mean_iou(counts[:, index], classes)[0] for index in range(counts.shape[1])])
