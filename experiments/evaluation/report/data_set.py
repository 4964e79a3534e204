"""docs/results/data-set.md: the data set of section 4.3, what its filters reject, and how good its masks are."""

import json
from collections.abc import Mapping
from typing import Any

from experiments.evaluation.report.markdown import Results, bounds, listed, percent, table

PAPER = (20_000, 13_484)
"""Images before and after the filters."""
OF_BUNDLED = """
CLIP is `models/clip`, [trained on this world's pictures and captions](../../models/clip/README.md). It has never read "not", so
that the contrast of `published-code`, of "a car" and "not a car", does not reject what shows no car.
"""


def page(found: Results) -> str:
    """The whole page."""
    parts = {
        "What stays": staying(found),
        "How good the masks are": masks(found),
        "Rejected, by class and reason": "".join(f"\n`{name}`:\n\n{of_preset(one)}" for name, one in found["presets"].items()),
        "How it was made": made(found),
    }
    head = "# The data set of section 4.3\n\nThe [first page](../results.md) has the summary of all results.\n"
    return head + "".join(f"\n## {title}\n\n{text}" for title, text in parts.items())


def total(preset: Results) -> dict[str, int]:
    """How many images stay ("accepted") and are rejected for which reason."""
    counts: dict[str, int] = {}
    for one in preset["by class"].values():
        for reason, count in one.items():
            counts[reason] = counts.get(reason, 0) + count
    return counts


def staying(found: Results) -> str:
    """How many images both presets leave, beside the paper's."""
    rows, images = [], found["before"]["images"]
    for name, preset in found["presets"].items():
        counts = total(preset)
        kept, area, clip = (counts.get(reason, 0) for reason in ("accepted", "area", "clip"))
        rows.append([f"`{name}`, here", *map(str, (images, area, clip if found["clip"] else "off", kept)), share(kept, images)])
    rows.append(
        ["the paper, Stable Diffusion 1.5", *map(str, PAPER[:1]), "not told", "6000 (30 %)", str(PAPER[1]), share(*PAPER[::-1])]
    )
    off = (
        ""
        if found["clip"]
        else "\n**The filters by CLIP are off here**, and no image is rejected for what it shows. `--clip` names a "
        "`transformers.CLIPModel` and turns them on.\n"
    )
    here = OF_BUNDLED if found["clip"] == "models/clip" else ""
    return table(["filters", "images", "rejected for their area", "by CLIP", "stay", "of all"], rows) + off + here


def share(part: int, whole: int) -> str:
    """A part in percent."""
    return f"{percent(part / whole)} %"


def masks(found: Results) -> str:
    """The quality of the masks before the filters and after each preset."""
    rows = []
    several = {"before": found["before"], **{f"after `{name}`": preset["after"] for name, preset in found["presets"].items()}}
    for name, one in several.items():
        if one["images"]:
            figures = [f"{percent(one['miou']['value'])} {bounds(one['miou'])}", percent(one["good"]), percent(one["clear"])]
            rows.append([name, str(one["images"]), *figures])
    return (
        "A generated image's truth is what the evaluation takes for it: the labels of the first annotator, a network trained on "
        "scenes with exact masks ([how true it is](../results.md#how-true-is-the-truth)). mIoU is that of Table 1, but of all "
        "images, those that do not show their class among them; *good* masks have an IoU of at least 0.5; *clear* images show "
        f"their class on at least 3 % of the image.\n\n{table(['', 'images', 'mIoU, %', 'good, %', 'clear, %'], rows)}"
    )


def of_preset(preset: Results) -> str:
    """What becomes of every class's images."""
    reasons = [reason for reason in total(preset) if reason != "accepted"]
    after = preset["after"].get("by_class", {})
    rows = [
        [
            name,
            str(sum(one.values())),
            *(str(one.get(reason, 0)) for reason in reasons),
            str(one.get("accepted", 0)),
            iou(after, name),
        ]
        for name, one in preset["by class"].items()
    ]
    return table(["class", "images", *reasons, "stay", "IoU of what stays, %"], rows)


def iou(by_class: Mapping[str, float], name: str) -> str:
    """A class's IoU, or nothing."""
    return percent(by_class[name]) if name in by_class else ""


def made(found: Results) -> str:
    """Where the numbers come from."""
    source: Mapping[str, Any] = found["provenance"]
    presets = listed(f"`{name}`: `{json.dumps(preset['filters'])}`" for name, preset in found["presets"].items())
    return f"""`{source["command"]}` at commit `{source["commit"]}`; model `{source["model"]}`, SHA-256 of its weights
`{source["model sha256"]}`. Captions contain the class; half of them say it alone, half one or two other things as well, as in
coco-cap; their seeds are used for nothing else. Masks are OVAM's with a token learned from one image of each class, made by
`{found["setting"]["name"]}` at the threshold of the evaluation's tuning, and mark the caption's class alone: other things of
Pascal VOC in the image are background there, as in the paper. The filters are the code of the service's
[data sets](../datasets.md):

{presets}"""
