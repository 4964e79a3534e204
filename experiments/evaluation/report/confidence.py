"""docs/results/confidence.md and docs/method/confidence.svg: what IoU was expected of masks, and what it was."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from experiments.evaluation.report.plots import row

Json = dict[str, Any]
KINDS = {"generate": "generated images", "image": "renders as real images"}
COLOURS = {"default": "#4477aa", "ovam": "#228833", "daam": "#cc6677", "attn2mask": "#aa8833"}


def diagram(rows: Sequence[Json]) -> Figure:
    """The reliability diagram: groups of equally many masks of the reporting seeds, the least sure first."""
    kinds = [kind for kind in KINDS if any(one["images"] == kind for one in rows)]
    figure, axes = row(len(kinds), "IoU with the true mask")
    for axis, kind in zip(axes, kinds, strict=True):
        axis.plot([0, 1], [0, 1], color="#999999", lw=1, ls=":")
        for one in rows:
            if one["images"] == kind:
                found = [[each[name] for each in one["bins"]] for name in ("expected", "iou", "sem")]
                axis.errorbar(
                    *found[:2], yerr=found[2], fmt="o-", ms=4, capsize=2, color=COLOURS[one["method"]], label=one["method"]
                )
        axis.set(title=KINDS[kind], xlabel="expected IoU", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes[0].legend(fontsize=8)
    return figure


def draw(rows: Sequence[Json], path: Path) -> None:
    """Write the diagram as SVG, the same for the same numbers."""
    mpl.use("agg")
    with mpl.rc_context({"svg.hashsalt": "ovam", "svg.fonttype": "none"}):
        diagram(rows).savefig(path, metadata={"Date": None, "Creator": None})


def page(found: Json) -> str:
    """The page with the table."""
    head = (
        "# How sure masks are\n\n"
        "`python -m experiments confidence`: an agreement ([the method](../method.md#how-sure-a-mask-is)) is calibrated on "
        "tuning seeds and tested on reporting seeds. Truth is the first annotator's on generated images, whether or not the "
        "thing was drawn, and exact on renders in a style that the model has not seen, which stand for real images. Words are "
        "looked for by the model's own settings (*default*) and by the published methods.\n\n"
        "![Expected and actual IoU of masks, from the least sure fifth to the surest](../method/confidence.svg)\n\n"
    )
    titles = (
        "images", "method", "masks, tuning / reporting", "calibration error", "off by, one mask", "off by, the mean for all",
        "order: agreement", "order: score", "IoU, all", "IoU, least sure fifth",
    )  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * 2}{' --: |' * (len(titles) - 2)}"]
    lines += [f"| {' | '.join(cells(one))} |" for one in found["rows"]]
    notes = (
        "\n\n*Calibration error*: between the expected and the mean actual IoU of fifths, on average. *Off by*: the mean "
        "distance of the IoU from what was expected of the mask, and from the mean of the tuning masks. *Order*: Spearman's rank "
        "correlation with the IoU. Whiskers are standard errors; of few masks they are wide.\n"
    )
    return head + "\n".join(lines) + notes


def cells(one: Json) -> list[str]:
    """A row of the table."""
    decimals = (one["error"], one["off"], one["constant"], *one["order"].values(), *one["iou"].values())
    return [KINDS[one["images"]], one["method"], " / ".join(map(str, one["masks"])), *(f"{each:.2f}" for each in decimals)]
