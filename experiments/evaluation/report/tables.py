"""The tables of docs/results.md, made of the results' JSON alone."""

from collections.abc import Iterable, Mapping
from typing import Any

from experiments.evaluation import paper
from experiments.evaluation.asking import VOCABULARY, WORDINGS
from experiments.evaluation.claims import BOTH, SETS
from experiments.evaluation.datasets import RENDER_SETS
from experiments.evaluation.recipes import ASKED_OF_RENDERS, FINE, FINE_OF_SCENES, PUBLISHED_RECIPE, RECIPES, UNCONDITIONAL
from experiments.evaluation.report.markdown import NAMES, difference, figure, named, percent, table
from experiments.evaluation.scales import LONG, SHORT
from experiments.evaluation.settings import METHODS, POINTS, WHERE, grids_of, key, named_blocks

Results = Mapping[str, Any]


def beside(scores: Results, rows: Mapping[str, str], theirs: Mapping[str, paper.Four]) -> str:
    """Rows with words and with tokens on both sets, the paper's figure beside each; rows by the settings' names."""
    head = ["", *(f"{dataset}, {asked}" for dataset in SETS for asked in BOTH)]
    lines = []
    for name, label in rows.items():
        cells = []
        for dataset in SETS:
            for asked in BOTH:
                ours = figure(scores, dataset, key(name, asked))
                cells.append(f"{ours} ({paper.of(theirs[name], dataset, asked)})" if name in theirs else ours)
        lines.append([label, *cells])
    return table(head, lines)


def methods(scores: Results) -> str:
    """Tables 1 and 2: all methods with words and with tokens."""
    rows = {name: f"{NAMES[name]}" for name in METHODS}
    rows |= {f"{name}, published threshold": f"{NAMES[name]}, published thresholds" for name in METHODS}
    return beside(scores, rows, paper.METHODS)


def by_class(scores: Results, dataset: str) -> str:
    """Table 2: the IoU of every class."""
    of_set = scores["scores"].get(dataset)
    if of_set is None:
        return "not measured\n"
    keys = [key(name, asked) for name in METHODS for asked in BOTH]
    classes = list(of_set[keys[0]]["by_class"])
    rows = [[named(name.replace(" | ", ", ")), *(percent(of_set[name]["by_class"].get(kind, 0)) for kind in classes),
             percent(of_set[name]["miou"]["value"])] for name in keys]  # fmt: skip
    return table(["", *classes, "mean"], rows)


def post_processing(scores: Results) -> str:
    """Table 4."""
    rows = {
        "daam": "none",
        "self-attention": "self-attention (Eq. 8)",
        "dCRF": "dCRF",
        "ovam": "both",
        "self-attention, other sign": "self-attention, the other sign of Eq. 8",
    }
    return beside(scores, rows, paper.POST_PROCESSING)


def blocks(scores: Results) -> str:
    """Table 5."""
    resolutions = scores["provenance"]["resolutions"]
    rows = {named_blocks(grids): " + ".join(map(str, grids)) for grids in grids_of(resolutions)}
    return beside(scores, rows | {"ovam": "all"}, paper.blocks(resolutions))


def evaluations(scores: Results) -> str:
    """Fig. 6 as a table."""
    rows = {f"{selection} {point}": f"{selection} {point}" for selection, points in POINTS.items() for point in points}
    return beside(scores, rows | {"daam": "all"}, {})


def refinement(scores: Results) -> str:
    """Affinity."""
    names = ("daam", "min-max", *(f"affinity {steps}" for steps in range(1, 5)), "affinity 1, share of the maximum",
             "affinity 1 + dCRF", "attention + affinity 1 + dCRF", "ovam")  # fmt: skip
    return beside(scores, {name: named(name) for name in names}, {})


def asked_otherwise(scores: Results, asked: Iterable[str]) -> str:
    """The same methods asked in several ways."""
    names = ("min-max", "affinity 1", "affinity 1 + dCRF")
    head = ["asked for", *(f"{dataset}, {name}" for dataset in SETS for name in names)]
    rows = [[one, *(figure(scores, dataset, key(name, one)) for dataset in SETS for name in names)] for one in asked]
    return table(head, [row for row in rows if any(row[1:])])


def wordings(scores: Results) -> str:
    """All wordings, and all words at once."""
    return asked_otherwise(scores, [*WORDINGS, VOCABULARY])


def recipes(scores: Results) -> str:
    """All ways of learning tokens."""
    return asked_otherwise(scores, [name for name in RECIPES if name != UNCONDITIONAL])


def other_choices(scores: Results) -> str:
    """Halves, padding, and where classes part."""
    keys = [
        *(key("daam", asked) for asked in (*BOTH, "words, padded")),
        *(key("unconditional half", asked) for asked in (*BOTH, UNCONDITIONAL)),
    ]
    rows = [[named(name.replace(" | ", ", ")), *(figure(scores, dataset, name) for dataset in SETS)] for name in keys]
    return table(["", *SETS], rows)


def where_objects_part(scores: Results) -> str:
    """Evaluations and grids, for several ways of asking."""
    head = ["", "evaluations and grids", *(f"{name}, {which}" for name in SETS for which in ("min-max", "affinity 1", "+ dCRF"))]
    rows = []
    for asked in ("words", VOCABULARY, PUBLISHED_RECIPE, FINE, FINE_OF_SCENES):
        for where in ("", *(f", {name}" for name in WHERE)):
            names = [f"{way}{where}" for way in ("min-max", "affinity 1", "affinity 1 + dCRF")]
            cells = [figure(scores, dataset, key(name, asked)) for dataset in SETS for name in names]
            if any(cells):
                rows.append([asked, where.removeprefix(", ") or "all", *cells])
    return table(head, rows)


def real_images(scores: Results) -> str:
    """Renders: things, parts and grounds with exact masks."""
    rows = []
    for group, dataset in RENDER_SETS.items():
        for asked in ASKED_OF_RENDERS[group]:
            cells = [figure(scores, dataset, key(name, asked)) for name in ("daam", "min-max", "affinity 1", "affinity 1 + dCRF")]
            rows.append([f"{group}, {asked}", *cells])
    return table(["", "plain", "min-max", "affinity 1", "affinity 1 + dCRF"], rows)


def parts(scores: Results) -> str:
    """Every part."""
    of_set = scores["scores"].get("render-parts")
    if of_set is None:
        return "not measured\n"
    asked = ASKED_OF_RENDERS["parts"]
    kinds = list(next(iter(of_set.values()))["by_class"])
    rows = [[kind, *(percent(of_set[key("affinity 1", one)]["by_class"][kind]) for one in asked)] for kind in kinds]
    return table(["part, affinity 1", *asked], rows)


def selectivity(scores: Results) -> str:
    """How much of a class's heat other objects get."""
    found = scores["selectivity"]
    asked = list(dict.fromkeys(one for of_set in found.values() for one in of_set))
    rows = [[one, *(f"{found[name][one]:.2f}" if one in found.get(name, {}) else "" for name in ("coco-cap",))] for one in asked]
    return table(["asked for", "coco-cap"], rows)


def long_generations(scores: Results) -> str:
    """Attn2Mask at 30 and at 100 steps."""
    sets = (SHORT, LONG)
    rows = [
        [named(name.replace(" | ", ", ")), *(figure(scores, dataset, name) for dataset in sets)]
        for name in scores["scores"].get(LONG, {})
    ]
    return table(["same seeds", "30 steps", "100 steps"], rows)


def learning(tokens: Results) -> str:
    """What the recipes took and reached."""
    rows = []
    for name, fits in tokens["recipes"].items():
        each = list(fits.values())
        mean = {what: sum(fit["loss"][index] for fit in each) / len(each) for index, what in enumerate(("start", "end"))}
        seconds = sum(fit["seconds"]["optimisation"] for fit in each)
        rows.append([name, str(len(each[0]["examples"])), f"{mean['start']:.3f}", f"{mean['end']:.3f}", f"{seconds:.0f}"])
    return table(["recipe", "images a fit", "loss of the words", "loss reached", "CPU s, all classes"], rows)


def found(findings: Results, tables: Iterable[str]) -> str:
    """Claims with the paper's difference, ours, and the verdict."""
    wanted = set(tables)
    rows = []
    for claim in findings["claims"]:
        if claim["table"] in wanted:
            theirs = "" if claim["paper"] is None else f"{claim['paper']:+.1f}"
            text = f"{named(claim['better'].replace(' | ', ', '))} over {named(claim['worse'].replace(' | ', ', '))}"
            rows.append([text, claim["dataset"], theirs, difference(claim["ours"]), claim["verdict"]])
    return table(["", "set", "paper", "here", "verdict"], rows)


def improvements(findings: Results) -> str:
    """The best settings by tuning, against the paper's recipe."""
    rows = []
    for field, one in findings["improvements"].items():
        cells = [f"{100 * one['tuning']:+.1f}"]
        for dataset in SETS:
            ours = one["reporting"].get(dataset)
            cells.append("" if ours is None else difference(ours))
        rows.append([field, named(one["best"].replace(" | ", ", ")), *cells])
    return table(["among", "best in tuning", "in tuning", *SETS], rows)


def defaults(found: Results) -> str:
    """What a model's defaults were compared with, and whether it took their place."""
    rows = []
    for change in found["changes"]:
        gains = change["gains"]
        verdict = "adopted" if all(gain > 0 for gain in gains.values()) else "left as it was"
        names = (change["field"], *(named(change[which].replace(" | ", ", ")) for which in ("now", "best")))
        rows.append([*names, *(f"{100 * gains[name]:+.1f}" if name in gains else "" for name in ("tuning", *SETS)), verdict])
    return table(["", "was", "best in tuning", "in tuning", *SETS, ""], rows)


def thresholds(scores: Results) -> str:
    """The thresholds chosen for the published methods, beside the published."""
    settings = scores["settings"]["generated"]
    rows = []
    for name in METHODS:
        for asked in BOTH:
            ours = settings[key(name, asked)]["method"]["tau"]
            theirs = settings[key(f"{name}, published threshold", asked)]["method"]["tau"]
            rows.append([f"{NAMES[name]}, {asked}", f"{ours:.2f}", f"{theirs:.2f}"])
    return table(["", "tuned", "published"], rows)


def time(profile: Results) -> str:
    """Where the time went."""
    stages = list(profile["seconds"]["all"])
    rows = [[stage, *(f"{spent[what]:.0f}" for what in stages)] for stage, spent in profile["seconds"].items()]
    return table(["CPU seconds", *stages], rows)
