"""docs/results/segmentation.md: Table 3, segmentation networks trained on the data set, on real images, and on both."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.evaluation.report.markdown import Results, bounds, difference, listed, percent, table

PAPER: dict[str, tuple[float, float, float, float]] = {
    "UPerNet, ResNet": (42.1, 54.3, 54.4, 58.1),
    "Mask2Former, ResNet": (41.5, 69.7, 69.8, 70.5),
    "Mask2Former, Swin": (53.5, 82.8, 82.9, 83.8),
}
"""mIoU of S, R, S -> R/2 and S -> R in the paper."""
ROWS = ("S", "R", "S -> R/2", "S -> R")
CLASSES = ("aeroplane", "bicycle", "boat", "bus", "car", "cat", "chair", "cow", "dog", "person", "tvmonitor")
"""Those of Table 3's columns."""

LEARNED = 0.1
"""The least mean IoU of objects, trained on real images alone, of a network whose rows say anything."""
RULE = f"""*Reaches* holds unless all of the interval of the difference is below 0, *beats* if all of it is above 0. A network
decides nothing if it finds objects with a mean IoU below {100 * LEARNED:.0f} % when trained on R alone.

"""
WHY_TWO_RATES = """The paper's second stages learn at a tenth of the rate. A network that has learned little before stays near
what S has taught it then, so that every second stage is trained at the full rate, too.

"""
CHOSEN = "Rates were chosen on other renders, for training and for judging, than those of the table.\n\n"


def page(found: Results) -> str:
    """The whole page."""
    parts = {
        "Table 3": rows(found),
        "The aims": aims(found),
        "Differences on the same seeds": differences(found),
        "Classes": classes(found),
        "How it was measured": measured(found),
    }
    head = "# Table 3: segmentation networks\n\nThe [first page](../results.md) has the summary of all results.\n"
    return head + "".join(f"\n## {title}\n\n{text}" for title, text in parts.items())


def rows(found: Results) -> str:
    """The mIoU of every network and row, with the paper's."""
    lines = []
    for name, one in found["networks"].items():
        for row, reached in one["rows"].items():
            theirs = f"({PAPER[name][ROWS.index(row)]})" if row in ROWS and name in PAPER else ""
            seeds = ", ".join(percent(value) for value in reached["by seed"].values())
            figure = f"{percent(reached['miou']['value'])} {bounds(reached['miou'])} {theirs}".strip()
            lines.append([f"{name}: {row}", str(reached["images"]), figure, seeds])
    data = found["data"]
    return (
        f"S: {data['synthetic']} images of the [data set](data-set.md). R: {data['real']} real images; R/2: {data['half']} of "
        "them. *S -> R* goes on with real images at a tenth of the rate, *full rate* at the first stage's. *R -> R* does so "
        "after real images, which tells what S gives from what more steps give. mIoU in % over Pascal VOC's 21 classes, with the "
        "95 % interval over seeds (Student's t); in brackets the paper's."
        f"\n\n{table(['network: trained on', 'images of the last stage', 'mIoU', 'by seed'], lines)}"
    )


def aims(found: Results) -> str:
    """What became of the two aims, and by which rules."""
    chosen = "" if found["provenance"]["real"] else CHOSEN
    return f"{WHY_TWO_RATES}{chosen}{RULE}{listed(verdicts(found))}{control(found)}"


def verdicts(found: Results) -> Iterator[str]:
    """What became of the two aims, network by network."""
    for name, one in found["networks"].items():
        why = "" if one["learned"] else (
            f" Trained on R alone, it finds hardly anything but background (mean IoU of objects: {percent(one['objects'])}), "
            "so that its rows say nothing."
        )  # fmt: skip
        for told in one["aims"]:
            claims = f"S -> R/2 reaches R alone: **{told['reaches']}**; S -> R beats R: **{told['beats']}**"
            yield f"{name}, second stage at {rate(told)}: {claims}.{why}"


def control(found: Results) -> str:
    """What S gives beside as many more steps on real images."""
    pair = "S -> R, full rate over R -> R, full rate"
    told = "; ".join(f"{name} {difference(one['differences'][pair])}" for name, one in found["networks"].items())
    return f"""
What S gives is to be seen beside R -> R, the same steps with real images in both stages. Points of S -> R over it, both at the
full rate: {told}.
"""


def rate(aims: Results) -> str:
    """That of second stages."""
    return "a tenth of the rate" if aims["rate"] < 1 else "the full rate"


def differences(found: Results) -> str:
    """By how much rows differ."""
    by_network = {name: one["differences"] for name, one in found["networks"].items()}
    pairs = next(iter(by_network.values()))
    lines = [[pair, *(difference(several[pair]) for several in by_network.values())] for pair in pairs]
    return f"Points of mIoU, with the 95 % interval over seeds.\n\n{table(['rows', *by_network], lines)}"


def classes(found: Results) -> str:
    """The IoU of Table 3's classes."""
    lines = []
    for name, one in found["networks"].items():
        for row, reached in one["rows"].items():
            ious = (reached["by class"].get(each) for each in ("background", *CLASSES))
            lines.append([f"{name}: {row}", *("" if iou is None else percent(iou) for iou in ious)])
    return table(["IoU, %", "background", *CLASSES], lines)


def measured(found: Results) -> str:
    """Where the numbers come from."""
    source, course = found["provenance"], found["course"]
    real = f"the folder `{source['real']}`" if source["real"] else RENDERS
    return f"""`{source["command"]}` at commit `{source["commit"]}`. Networks are transformers' at the size
`{course["size"]}`; every stage has {course["steps"]} steps of {course["batch"]} images, every row {course["seeds"]} seeds, which
set first weights, order and views{MORE if course["seeds"] > USUAL else ""}.
{begin(found)} Views are squares with random sizes, places, sides and colours. Judged by
{found["data"]["validation"]} images by Pascal VOC's protocol: one confusion matrix over all pixels of all images at their own
size, 255 not counted. Real images are {real}.

{listed(recipes(found))}"""


USUAL = 3
MORE = " (three by default; more where three leave a verdict open)"
RENDERS = """renders of the one style of the world that neither the generator nor its annotators
have seen, with exact masks; things that are not among Pascal VOC's classes are background. Those that are trained on and those
that are judged by show the same few drawings of that style (one to fifteen a class) in other scenes, as two parts of one set of
photographs would"""


def begin(found: Results) -> str:
    """What backbones know before."""
    if not found["backbones"]:
        return "All networks begin from nothing, where the published ones begin from weights of\nImageNet."
    if found["course"]["size"] == "published":
        return "Backbones begin with weights of ImageNet."
    steps, shares = found["course"]["naming"], (f"{one['backbone']} {percent(one['named'])} %" for one in found["backbones"])
    return f"""Backbones first learn to name the world's sixty things, one in a picture, in the
styles that the generator has seen, as the published ones have learned from ImageNet: {steps} steps of 32 new pictures. In
the end they name of new pictures: {", ".join(shares)}. The rest of a network begins from nothing."""


def recipes(found: Results) -> Iterator[str]:
    """How each network was trained, and how long that took."""
    given: Mapping[str, Any] = found["course"]["recipes"]
    for name, network in found["networks"].items():
        spent = f"{network['parameters']:,} parameters, {seconds(network)} s of processor time a stage"
        yield f"{name}: {spent}; `{json.dumps(given[name])}`."


def seconds(network: Results) -> str:
    """The mean processor time of a stage."""
    several = [row["seconds"] for row in network["rows"].values()]
    return f"{sum(several) / len(several):.0f}"
