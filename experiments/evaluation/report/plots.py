"""Plots of the results, made of their JSON alone. This module alone needs matplotlib, one of the packages of the checks."""

from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.evaluation.claims import BOTH, SETS
from experiments.evaluation.recipes import COUNTS
from experiments.evaluation.settings import POINTS, PUBLISHED, TRAINED, key

Results = Mapping[str, Any]
COLOURS = {"words": "#4477aa", "tokens": "#cc6677"}
LABELS = {
    "daam": "DAAM",
    "attn2mask": "Attn2Mask",
    "ovam": "OVAM",
    "affinity 1 + dCRF": "affinity 1\n+ dCRF",
    "datasetdm": "Dataset-\nDM",
    "datasetdm-published": "Dataset-\nDM, as\npublished",
    "grounded-diffusion": "Grounded\nDiffusion",
}
TITLES = {"single": "a single evaluation", "first": "the first evaluations", "last": "the last evaluations"}


def draw(scores: Results, folder: Path) -> None:
    """Write all plots."""
    mpl.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in {"methods": methods(scores), "evaluations": evaluations(scores), "images": images(scores)}.items():
        figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})


def bounds(scores: Results, dataset: str, name: str) -> tuple[float, float, float]:
    """The mIoU of a setting in percent, and how far its interval reaches down and up; no numbers if it was not measured."""
    if name not in scores["scores"].get(dataset, {}):
        return nan, nan, nan
    miou = scores["scores"][dataset][name]["miou"]
    value, low, high = (100 * miou[bound] for bound in ("value", "low", "high"))
    return value, value - low, high - value


def methods(scores: Results) -> Figure:
    """Tables 1 and 2 as bars."""
    figure, axes = row(len(SETS), "mIoU, %")
    measured = {row.split(" | ")[0] for dataset in SETS for row in scores["scores"].get(dataset, {})}
    names = [name for name in (*PUBLISHED, "affinity 1 + dCRF", *TRAINED) if name in measured]
    for axis, dataset in zip(axes, SETS, strict=True):
        for shift, target in ((-0.2, "words"), (0.2, "tokens")):
            found = [bounds(scores, dataset, key(name, target)) for name in names]
            places = [index + shift for index in range(len(names))]
            error = [[one[1] for one in found], [one[2] for one in found]]
            axis.bar(places, [one[0] for one in found], 0.38, yerr=error, color=COLOURS[target], label=target, capsize=2)
        axis.set_xticks(range(len(names)), [LABELS.get(name, name) for name in names], fontsize=7)
        axis.set_title(dataset)
        axis.set_ylim(0, 100)
    axes[-1].legend(loc="upper right")
    return figure


def evaluations(scores: Results) -> Figure:
    """Fig. 6: mIoU against which evaluations are used."""
    figure, axes = row(len(SETS) * len(POINTS), "mIoU, %", across=3)
    for axis, (dataset, (selection, points)) in zip(axes, ((s, p) for s in SETS for p in POINTS.items()), strict=True):
        for target in BOTH:
            found = [bounds(scores, dataset, key(f"{selection} {point}", target)) for point in points]
            middle = [one[0] for one in found]
            axis.plot(points, middle, "o-", ms=3, color=COLOURS[target], label=target)
            low, high = [one[0] - one[1] for one in found], [one[0] + one[2] for one in found]
            axis.fill_between(points, low, high, color=COLOURS[target], alpha=0.2, lw=0)
            if selection == "single":
                axis.axhline(bounds(scores, dataset, key("daam", target))[0], color=COLOURS[target], ls=":", lw=1)
        axis.set_title(f"{dataset}: {TITLES[selection]}", fontsize=9)
    axes[0].legend()
    return figure


def images(scores: Results) -> Figure:
    """MIoU against the number of annotated images."""
    figure, axes = row(len(SETS), "mIoU, %")
    for axis, dataset in zip(axes, SETS, strict=True):
        for name, style in (("min-max", "o-"), ("affinity 1", "s--"), ("affinity 1 + dCRF", "^:")):
            found = [bounds(scores, dataset, key(name, recipe)) for recipe in COUNTS.values()]
            error = [[one[1] for one in found], [one[2] for one in found]]
            axis.errorbar(list(COUNTS), [one[0] for one in found], yerr=error, fmt=style, capsize=2, label=name)
        axis.set_title(dataset)
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(COUNTS), [str(count) for count in COUNTS])
        axis.set_xlabel("annotated images a class")
    axes[0].legend()
    return figure


def row(count: int, label: str, across: int | None = None) -> tuple[Figure, list[Axes]]:
    """A figure of axes side by side."""
    across = across or count
    down = -(-count // across)
    figure = Figure(figsize=(4.2 * across, 3.2 * down), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis in axes[::across]:
        axis.set_ylabel(label)
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure, axes
