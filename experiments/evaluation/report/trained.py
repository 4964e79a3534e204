"""The page of the methods with networks of their own: Tables 1 and 2 for the classes of Table 2's columns, and Fig. 5."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.evaluation.claims import BOTH, SETS
from experiments.evaluation.report import reasons, tables
from experiments.evaluation.report.markdown import NAMES, table
from experiments.evaluation.settings import PUBLISHED, TRAINED, key

Results = Mapping[str, Any]
COLOURS = {"words": "#8da0cb", "tokens": "#fc8d62"}


def page(found: Results, explained: Results | None = None) -> str:
    """The page in Markdown."""
    counts = " and ".join(f"{count} of {name}" for name, count in found["provenance"]["images"].items())
    taught = "".join(
        f"- **{NAMES[name]}**: {card['teacher']}; "
        + ", ".join(f"{what} {told(card[what])}" for what in card if what != "teacher")
        + "\n"
        for name, card in found["training"].items()
    )
    return f"""# Grounded Diffusion and DatasetDM

Written by `python -m experiments measure-trained`. Tables 1 and 2 with all methods, on {counts}: the first images of the
classes of Table 2's columns, from the seeds that report (`experiments/evaluation/datasets.py`). Thresholds of the methods
without a network are those that the whole evaluation chose on its tuning sets; a network's is 0.5, as published. `make eval`
measures the same on all images. In brackets: the paper.

{tables.methods(found)}
## What holds

{tables.claims({"claims": found["claims"]}, ("1 and 2", "2"))}
## Where tokens help

Points that tokens give over words, the mean over classes:

{where(found)}
## Class by class (Fig. 5)

![IoU of every class with words and with tokens](classes.png)

IoU of every class on coco-cap, beside Table 2's columns:

{tables.by_class(found, "coco-cap")}
and on voc-sim:

{tables.by_class(found, "voc-sim")}
{reasons.sections(explained) if explained else ""}
## The networks

{taught}"""


def where(found: Results) -> str:
    """What tokens give to classes that Grounded Diffusion has seen in its training or not, and to those that words find worst."""
    unseen = found["training"].get("grounded-diffusion", {}).get("unseen", ())
    rows = []
    for dataset in SETS:
        for name in (*PUBLISHED, *TRAINED):
            words, tokens = (found["scores"][dataset].get(key(name, target), {}).get("by_class", {}) for target in BOTH)
            if words and tokens:
                order = sorted(words, key=lambda each: words[each])
                half = len(order) // 2
                parts = (order, [one for one in order if one not in unseen], [one for one in order if one in unseen])
                gains = [mean_gain(words, tokens, some) for some in (*parts, order[:half], order[half:])]
                rows.append([f"{dataset}: {NAMES[name]}", *gains])
    names = ", ".join(sorted(one for one in unseen if any(one in of["by_class"] for of in found["scores"]["coco-cap"].values())))
    head = ["", "all classes", "seen in training", f"not seen: {names}", "the half that words find worst", "the other half"]
    return table(head, rows)


def mean_gain(words: Results, tokens: Results, classes: Sequence[str]) -> str:
    """By how many points tokens are better than words, on average over some classes."""
    return f"{100 * sum(tokens[one] - words[one] for one in classes) / len(classes):+.1f}" if classes else ""


def told(value: object) -> str:
    """A fact of a card."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def draw(found: Results, path: Path) -> None:
    """Fig. 5: the IoU of every class by every method, with words and with tokens."""
    names = [name for name in (*PUBLISHED, *TRAINED) if any(key(name, "words") in found["scores"].get(one, {}) for one in SETS)]
    figures = {dataset: found["scores"].get(dataset, {}) for dataset in SETS}
    classes = sorted({each for of_set in figures.values() for one in of_set.values() for each in one["by_class"]})
    figure = Figure(figsize=(13, 2.2 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(SETS), squeeze=False, sharex=True, sharey=True)
    for row, name in zip(axes, names, strict=True):
        for axis, dataset in zip(row, SETS, strict=True):
            for shift, target in zip((-0.2, 0.2), BOTH, strict=True):
                by_class = figures[dataset].get(key(name, target), {}).get("by_class", {})
                places = [classes.index(each) + shift for each in by_class]
                axis.bar(places, [100 * value for value in by_class.values()], 0.38, color=COLOURS[target], label=target)
            axis.set_xticks(range(len(classes)), classes, fontsize=8, rotation=30)
            axis.set_title(f"{NAMES[name]}, {dataset}", fontsize=9)
            axis.set_ylim(0, 100)
    axes[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=90, metadata={"Software": None})
