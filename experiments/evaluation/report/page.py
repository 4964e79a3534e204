"""docs/results.md: written from the results' JSON, so that it says what they say."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.evaluation.report import tables, trial
from experiments.evaluation.report.reading import reading

Results = Mapping[str, Any]


def read(folder: Path) -> dict[str, Results]:
    """The results by file."""
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def page(results: Mapping[str, Results], pictures: str) -> str:
    """The whole page; pictures lie in a folder beside it."""
    scores, findings = results["scores"], results["findings"]
    source = scores["provenance"]
    annotator = source["annotator on unseen renders"]["mIoU"]
    error = f"\nThe annotator's own mIoU, on unseen renders with exact masks, is {100 * annotator:.1f}.\n"
    error = "" if source.get("data set") else error  # whose masks are not the annotator's
    sections = {
        "What it says": reading(scores, findings) + error,
        "How it was made": made(scores),
        "Tables 1 and 2: methods, with words and with learned tokens": tables.methods(scores)
        + error
        + picture(pictures, "methods", "Methods with words and with tokens")
        + "\nThe thresholds:\n\n"
        + tables.thresholds(scores)
        + "\nIoU of every class on coco-cap:\n\n"
        + tables.by_class(scores, "coco-cap")
        + "\nand on voc-sim:\n\n"
        + tables.by_class(scores, "voc-sim")
        + error
        + "\nThe signs:\n\n"
        + tables.found(findings, ("2", "1 and 2")),
        "Table 4: post-processing": tables.post_processing(scores) + error + "\n" + tables.found(findings, ("4",)),
        "Table 5: resolutions": "This model's resolutions stand where the paper's 64, 32 and 16 stood.\n\n"
        + tables.blocks(scores) + error + "\n" + tables.found(findings, ("5",)),
        "Fig. 6: evaluations": "Without post-processing. Dotted: all evaluations.\n\n"
        + picture(pictures, "evaluations", "mIoU against evaluations") + "\n" + tables.evaluations(scores) + error,
        "Beyond the paper": beyond(scores, findings, results["tokens"], pictures, error),
        "Real images": "Renders, which the model did not make, with exact masks of things, parts and grounds: no annotator.\n\n"
        + tables.real_images(scores) + "\nEvery part, in %:\n\n" + tables.parts(scores),
        **({"A further training that was tried": trial.compared(results["trial"], scores) + error} if "trial" in results else {}),
        "Defaults": defaults(results) + error,
        "Time": tables.time(results["profile"])
        + f"\nAttribution, optimisation and masks take {100 * results['profile']['share of the method']:.1f} % of it.\n",
        "Images": images(scores, pictures),
    }  # fmt: skip
    head = "# Results\n\nWritten by `python -m experiments report` from `experiments/results`; not by hand.\n"
    return head + "".join(f"\n## {title}\n\n{text}" for title, text in sections.items())


def made(scores: Results) -> str:
    """Where the numbers come from."""
    source = scores["provenance"]
    sets = "\n".join(
        f"- `{name}`: {one['images']} images of {one['kinds']} kinds, {len(one['excluded'])} left out"
        for name, one in scores["sets"].items()
    )
    data, service = source.get("data set"), source.get("service")
    truth = f"masks of `{data}`" if data else f"annotator `{source['annotator sha256']}`"
    asked = f"; asked through the service at `{service}`" if service else ""
    return f"""`{source["command"]}` at commit `{source["commit"]}`; model `{source["model"]}`, SHA-256 of its weights
`{source["model sha256"]}`; {truth}{asked}.

{sets}

Images without a clear object (at least 3 % of the image) are left out, as in the paper. mIoU is the mean over classes of
the IoU pooled over a class's images, in %; small figures are the 95 % interval of a bootstrap over images, drawn again
within every class. The paper's figures are in brackets.

**Thresholds** are chosen for every row, with words and with tokens apart, by one rule: of a grid from 0.04 to 0.98 by 0.02
(from 0.26 to 0.86 by 0.10 where a dCRF follows) the one with the highest mean of the mIoU on both tuning sets, whose seeds are
used for nothing else. Differences are of the same images; a sign *holds* if the interval of the difference excludes 0.
"""


def beyond(scores: Results, findings: Results, tokens: Results, pictures: str, error: str) -> str:
    """Everything that the paper does not have."""
    texts = [
        "### The best settings, by tuning\n\n" + tables.improvements(findings),
        "### Refinement by affinity\n\n" + tables.refinement(scores),
        "### Wordings\n\n" + tables.wordings(scores),
        "### Ways of learning tokens\n\n" + tables.recipes(scores) + picture(pictures, "images", "mIoU against annotated images")
        + "\n" + tables.learning(tokens),
        "### Halves and padding\n\n" + tables.other_choices(scores),
        "### Evaluations and grids that tell objects apart\n\n" + tables.where_objects_part(scores),
        "### Attn2Mask at 100 steps\n\n" + tables.long_generations(scores),
        "### What other objects get of the heat\n\n" + tables.selectivity(scores),
        "### Differences\n\n" + tables.found(findings, ("beyond",)),
    ]  # fmt: skip
    return "\n".join(text + error for text in texts)


def defaults(results: Mapping[str, Results]) -> str:
    """What became the model's defaults of these results."""
    found, source = results.get("defaults"), results["scores"]["provenance"]
    if found is None or found["provenance"]["model sha256"] != source["model sha256"]:
        return "Nothing of these results was made a default of the model (`python -m experiments adopt`).\n"
    after = "".join(f"- `{name}`: `{json.dumps(value)}`\n" for name, value in found["after"].items())
    return (
        "The setting that did best in tuning, of those that have a meaning for any image, becomes the model's default if it is "
        "better in tuning and on both reporting sets than what was the default. Differences of mIoU in points:\n\n"
        f"{tables.defaults(found)}\nSince then the model's `ovam.json` says:\n\n{after}"
    )


def images(scores: Results, pictures: str) -> str:
    """Contact sheets, and what was left out."""
    sets = [name for name in ("voc-sim", "coco-cap") if name in scores["sets"]]
    sheets = "".join(picture(pictures, name, f"Best, median and worst of {name}") for name in sets)
    left_out = "".join(f"- {name}: {', '.join(one['excluded']) or 'none'}\n" for name, one in scores["sets"].items())
    return f"{sheets}\nLeft out:\n\n{left_out}"


def picture(folder: str, name: str, text: str) -> str:
    """A picture of the folder."""
    return f"\n![{text}]({folder}/{name}.png)\n"
