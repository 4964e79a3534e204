"""The pages of results, written from their JSON: the first page, and one with all tables."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.evaluation.report import data_set, first_page, remedies, segmentation, tables, trained
from experiments.evaluation.report.markdown import Results, listed, percent, picture


def read(folder: Path) -> dict[str, Results]:
    """The results by file."""
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def write(results: Mapping[str, Results], docs: Path) -> None:
    """Write docs/results.md, and in docs/results/ tables.md and a page for each of `FURTHER` that was measured."""
    (docs / "results").mkdir(parents=True, exist_ok=True)
    (docs / "results.md").write_text(first_page.page(results))
    (docs / "results" / "tables.md").write_text(all_tables(results))
    for name, page in FURTHER.items():
        if name in results:
            (docs / "results" / f"{name}.md").write_text(page(results))


FURTHER: dict[str, Callable[[Mapping[str, Results]], str]] = {
    "remedies": remedies.page,
    "trained": lambda results: trained.page(results["trained"], results.get("explained")),
    "data-set": lambda results: data_set.page(results["data-set"]),
    "segmentation": lambda results: segmentation.page(results["segmentation"]),
}
"""Pages of their own, by the name of their results."""


def all_tables(results: Mapping[str, Results]) -> str:
    """The page with all tables."""
    scores, findings = results["scores"], results["findings"]
    sections = {
        "How it was measured": measured(scores),
        "How many signs hold": first_page.signs(findings),
        "Tables 1 and 2: methods, with words and with learned tokens": tables.methods(scores)
        + "\nWith the thresholds that were published for Stable Diffusion:\n\n" + tables.published_thresholds(scores)
        + "\nThe thresholds:\n\n" + tables.thresholds(scores)
        + "\nIoU of every class on coco-cap, beside Table 2's columns:\n\n" + tables.by_class(scores, "coco-cap")
        + "\nand on voc-sim:\n\n" + tables.by_class(scores, "voc-sim")
        + "\nThe signs:\n\n" + tables.claims(findings, ("2", "1 and 2")),
        "Table 4: post-processing": tables.post_processing(scores) + "\n" + tables.claims(findings, ("4",)),
        "Table 5: resolutions": RESOLUTIONS + tables.blocks(scores) + "\n" + tables.claims(findings, ("5",)),
        "Fig. 6: evaluations": "Without post-processing. Dotted: all evaluations.\n"
        + picture("", "evaluations", "mIoU against evaluations") + "\n" + tables.evaluations(scores),
        **beyond(scores, findings, results["tokens"]),
        "Real images": REAL + tables.real_images(scores),
        "The truth": truth(scores),
        "Defaults": defaults(results),
        "Time": tables.time(results["profile"])
        + f"\nAttribution, optimisation and masks take {percent(results['profile']['share of the method'])} % of it.\n",
        "Images": images(scores),
    }  # fmt: skip
    head = "# Results: all tables\n\nThe [first page](../results.md) has the summary.\n"
    return head + "".join(f"\n## {title}\n\n{text}" for title, text in sections.items())


RESOLUTIONS = (
    "Beside the paper's 64, 32 and 16 stand this model's resolutions, the highest first. A model with two has them beside 64 and "
    "16, and both beside 64 + 16.\n\n"
)
REAL = "Images that the model did not make, with exact masks: `real` shows one thing, `real-scenes` several.\n\n"


def measured(scores: Results) -> str:
    """Where the numbers come from."""
    source = scores["provenance"]
    sets = listed(
        f"`{name}`: {one['images']} images of {one['classes']} classes, {len(one['excluded'])} left out"
        for name, one in scores["sets"].items()
    )
    hashes = ", ".join(f"`{one}`" for one in source.get("annotators sha256", ()))
    truth = f"masks of `{source['data set']}`" if source["data set"] else f"annotators {hashes}"
    through = f"; through the service at `{source['service']}`" if source["service"] else ""
    return f"""`{source["command"]}` at commit `{source["commit"]}`; model `{source["model"]}`, SHA-256 of its weights
`{source["model sha256"]}`; {truth}{through}.

{sets}
Images without a clear object (at least 3 % of the image) are left out, as in the paper. mIoU is the mean over classes of
the IoU pooled over a class's images, in %; small figures are the 95 % interval of a bootstrap over images, drawn again
within every class. The paper's figures are in brackets.

**Thresholds** are chosen for every row, with words and with tokens apart, by one rule: of a grid from 0.04 to 0.98 by 0.02
(from 0.26 to 0.86 by 0.10 where a dCRF follows) the one with the highest mean of the mIoU on both tuning sets, whose seeds are
used for nothing else. Differences are of the same images; a sign *holds* if the interval of the difference excludes 0.
"""


def beyond(scores: Results, findings: Results, tokens: Results) -> dict[str, str]:
    """Everything that the paper does not have."""
    return {
        "The best settings, by tuning": tables.improvements(findings),
        "Refinement by affinity": tables.refinement(scores),
        "Wordings, and words that compete in one softmax": tables.wordings(scores),
        "Leakage: what other things get of the heat": tables.leakage(scores),
        "Ways of learning tokens": tables.recipes(scores)
        + picture("", "images", "mIoU against annotated images") + "\n" + tables.learning(tokens),
        "Padding": tables.padding(scores),
        "Evaluations and grids that tell things apart": tables.where_things_part(scores),
        "Attn2Mask at 100 steps": tables.long_generations(scores),
        "Differences": tables.claims(findings, ("beyond",)),
    }  # fmt: skip


def truth(scores: Results) -> str:
    """What is known of the masks that count as true."""
    return first_page.truth(scores) + "\n" + tables.annotators(scores)


def defaults(results: Mapping[str, Results]) -> str:
    """Which of these results became the model's defaults."""
    found, source = results.get("defaults"), results["scores"]["provenance"]
    if found is None or found["provenance"]["model sha256"] != source["model sha256"]:
        return "The model's `ovam.json` has its defaults; `python -m experiments adopt` has chosen none from these results.\n"
    after = listed(f"`{name}`: `{json.dumps(value)}`" for name, value in found["card"].items())
    return (
        "Of the settings that have a meaning for any image, the one that did best in tuning becomes the model's default if it is "
        "better than the paper's OVAM in tuning and on both reporting sets. Differences of mIoU from OVAM in points:\n\n"
        f"{tables.defaults(found)}\nThe model's `ovam.json` has since then:\n\n{after}"
    )


def images(scores: Results) -> str:
    """Contact sheets, and what was left out."""
    sets = [name for name in ("voc-sim", "coco-cap") if name in scores["sets"]]
    sheets = "".join(picture("", name, f"Best, median and worst of {name}") for name in sets)
    left_out = listed(f"{name}: {', '.join(one['excluded']) or 'none'}" for name, one in scores["sets"].items())
    return f"{sheets}\nLeft out:\n\n{left_out}"
