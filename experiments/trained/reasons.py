"""What the answers of trained networks to other rows say together."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.evaluation.lines import Line, by_dataset, counts_of, read_lines
from experiments.evaluation.report.reasons import GROUNDED, OF_CLASS, OF_IMAGE, TOKEN, WORD
from experiments.evaluation.scores import gain, mean_iou, score
from experiments.evaluation.summary import scores
from experiments.trained.taught import SPLIT
from experiments.trained.teacher import SPLITS

COMPARED = (TOKEN, OF_CLASS, OF_IMAGE)
"""Rows that are compared with the word's."""


def summed_up(paths: Sequence[Path]) -> dict[str, Any]:
    """The scores of every network and row, what rows give to parts of the images, and where the tokens lie."""
    lines = read_lines(paths)
    sets = by_dataset(lines)
    return {
        "images": {name: len(of_set) for name, of_set in sets.items()},
        "scores": {name: scores(of_set) for name, of_set in sets.items()},
        "parts": {name: parts(of_set) for name, of_set in sets.items()},
        "rows": {line["class_name"]: line["rows"] for line in lines},
    }


def of_renders(path: Path) -> dict[str, Any]:
    """The scores of every network on renders, by what was asked and compared."""
    lines, found = read_lines([path]), {}
    for name in dict.fromkeys(line["network"] for line in lines):
        mine = [line for line in lines if line["network"] == name]
        keys = dict.fromkeys(key for line in mine for key in line["counts"])
        several = {key: [line for line in mine if key in line["counts"]] for key in keys}
        figures = {
            key: asdict(score(np.array([one["counts"][key] for one in some]), [one["class_name"] for one in some]))
            for key, some in several.items()
        }
        found[name] = {"images": len(mine), "scores": figures}
    return found


def parts(lines: Sequence[Line]) -> dict[str, Any]:
    """What rows give Grounded Diffusion: in classes that its training has seen or not, and in thirds of the images."""
    counts, _ = counts_of(f"{GROUNDED} | {WORD}", lines)
    order = np.argsort(counts[:, 0, 0] / np.maximum(counts[:, 0, 1], 1), kind="stable")
    worst, middle, best = ([lines[index] for index in third] for third in np.array_split(order, 3))
    found = {
        "classes that it was trained on": [line for line in lines if line["class_name"] not in SPLITS[SPLIT]],
        "classes that it has never seen": [line for line in lines if line["class_name"] in SPLITS[SPLIT]],
        "the third of the images where the word is worst": worst,
        "the third in the middle": middle,
        "the third where the word is best": best,
    }
    return {name: compared(several) for name, several in found.items() if several}


def compared(lines: Sequence[Line]) -> dict[str, Any]:
    """The word on some images, and by how much other rows are better."""
    word, classes = counts_of(f"{GROUNDED} | {WORD}", lines)
    found: dict[str, Any] = {"images": len(lines), WORD: mean_iou(word[:, 0], classes)[0]}
    for what in COMPARED:
        others, _ = counts_of(f"{GROUNDED} | {what}", lines)
        if len(others) == len(lines):
            found[what] = asdict(gain(others[:, 0], word[:, 0], classes))
    return found
