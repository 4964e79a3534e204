"""The tables of the results' pages, made of the results' JSON alone."""

from collections.abc import Iterable, Mapping, Sequence

from experiments.evaluation import paper
from experiments.evaluation.claims import BOTH, SETS
from experiments.evaluation.measure import SECOND_ANNOTATOR
from experiments.evaluation.recipes import REAL_RECIPES, RECIPES
from experiments.evaluation.report.markdown import NAMES, Results, difference, figure, named, percent, table
from experiments.evaluation.scales import LONG, REAL_REPORTING, SHORT
from experiments.evaluation.settings import POINTS, PUBLISHED, TARGETS_THAT_PART, TRAINED, grids_of, key, named_blocks, places
from experiments.evaluation.targets import PADDED, TOGETHER, WORDINGS

WAYS = ("min-max", "affinity 1", "affinity 1 + dCRF")


def beside(scores: Results, rows: Mapping[str, str], theirs: Mapping[str, paper.Four]) -> str:
    """Rows with words and with tokens on both sets, the paper's figure beside each; rows by the settings' names."""
    head = ["", *(f"{dataset}, {target}" for dataset in SETS for target in BOTH)]
    lines = []
    for name, label in rows.items():
        places = [(dataset, target) for dataset in SETS for target in BOTH]
        ours = [figure(scores, dataset, key(name, target)) for dataset, target in places]
        if any(ours):  # else it was not measured with this model
            others = [f" ({paper.of(theirs[name], *place)})" if name in theirs else "" for place in places]
            lines.append([label, *map("".join, zip(ours, others, strict=True))])
    return table(head, lines)


def methods(scores: Results, names: Sequence[str] = (*PUBLISHED, *TRAINED)) -> str:
    """Tables 1 and 2: methods with words and with tokens."""
    return beside(scores, {name: NAMES[name] for name in names}, paper.METHODS | paper.TRAINED)


def published_thresholds(scores: Results) -> str:
    """The methods with the thresholds that were published for Stable Diffusion."""
    return beside(scores, {f"{name}, published threshold": NAMES[name] for name in PUBLISHED}, {})


def by_class(scores: Results, dataset: str) -> str:
    """Table 2: the IoU of every class, on COCO-cap the paper's beside it."""
    of_set = scores["scores"].get(dataset)
    if of_set is None:
        return "not measured\n"
    keys = [(name, target) for name in (*PUBLISHED, *TRAINED) for target in BOTH if key(name, target) in of_set]
    classes = list(dict.fromkeys(name for one in keys for name in of_set[key(*one)]["by_class"]))
    rows = []
    for class_name in classes:
        cells = []
        for method, target in keys:
            ours = of_set[key(method, target)]["by_class"].get(class_name)
            theirs = paper.of_class(method, target, class_name) if dataset == "coco-cap" else None
            cells.append(("" if ours is None else percent(ours)) + ("" if theirs is None else f" ({theirs})"))
        rows.append([class_name, *cells])
    rows.append(["**mean**", *(percent(of_set[key(*one)]["miou"]["value"]) for one in keys)])
    return table(["", *(named(key(*one)) for one in keys)], rows)


def annotators(scores: Results) -> str:
    """How far two annotators agree: the mIoU of the second one's masks with the first one's, which count as true."""
    rows = [[name, figure(scores, name, SECOND_ANNOTATOR)] for name in SETS]
    return table(["", "mIoU of the second annotator's masks"], [row for row in rows if row[1]])


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
    names = ("daam", "min-max", "affinity 1", "affinity 2", "affinity 1, share of the maximum",
             "affinity 1 + dCRF", "attention + affinity 1 + dCRF", "ovam")  # fmt: skip
    return beside(scores, {name: named(name) for name in names}, {})


def by_target(scores: Results, targets: Iterable[str]) -> str:
    """The same methods with several targets."""
    head = ["target", *(f"{dataset}, {name}" for dataset in SETS for name in WAYS)]
    rows = [[one, *(figure(scores, dataset, key(name, one)) for dataset in SETS for name in WAYS)] for one in targets]
    return table(head, [row for row in rows if any(row[1:])])


def wordings(scores: Results) -> str:
    """All wordings, and words that compete."""
    return by_target(scores, [*WORDINGS, *TOGETHER])


def recipes(scores: Results) -> str:
    """All ways of learning tokens."""
    return by_target(scores, RECIPES)


def padding(scores: Results) -> str:
    """Attention to the prompt's own tokens, or to the padding too."""
    keys = [key("daam", target) for target in (*BOTH, PADDED)]
    return table(["", *SETS], [[named(name), *(figure(scores, dataset, name) for dataset in SETS)] for name in keys])


def where_things_part(scores: Results) -> str:
    """Evaluations and grids, for several targets."""
    head = ["", "evaluations and grids", *(f"{name}, {way}" for name in SETS for way in WAYS[:2])]
    rows = []
    for target in TARGETS_THAT_PART:
        for where in ("", *(f", {name}" for name in places(scores["provenance"]["resolutions"]))):
            cells = [figure(scores, dataset, key(f"{way}{where}", target)) for dataset in SETS for way in WAYS[:2]]
            if any(cells):
                rows.append([target, where.removeprefix(", ") or "all", *cells])
    return table(head, rows)


def real_images(scores: Results) -> str:
    """Real images with exact masks."""
    ways = ("daam", *WAYS)
    targets = (*BOTH, *TOGETHER, *REAL_RECIPES)
    rows = []
    for dataset in REAL_REPORTING:
        for target in targets:
            cells = [figure(scores, dataset, key(name, target)) for name in ways]
            if any(cells):
                rows.append([f"{dataset}, {target}", *cells])
    return table(["", "plain", *ways[1:]], rows)


def leakage(scores: Results) -> str:
    """How much of a class's heat other things get."""
    found = scores["leakage"]
    targets = list(dict.fromkeys(one for of_set in found.values() for one in of_set))
    rows = [[one, *(f"{of_set[one]:.2f}" if one in of_set else "" for of_set in found.values())] for one in targets]
    return table(["target", *found], rows)


def long_generations(scores: Results) -> str:
    """Attn2Mask at 30 and at 100 steps."""
    names = [name for name in scores["scores"].get(LONG, {}) if name != SECOND_ANNOTATOR]
    rows = [[named(name), *(figure(scores, dataset, name) for dataset in (SHORT, LONG))] for name in names]
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


def claims(findings: Results, tables: Iterable[str]) -> str:
    """Claims with the paper's difference, ours, and the verdict."""
    wanted = set(tables)
    rows = []
    for claim in findings["claims"]:
        if claim["table"] in wanted:
            theirs = "" if claim["paper"] is None else f"{claim['paper']:+.1f}"
            text = f"{named(claim['better'])} over {named(claim['worse'])}"
            rows.append([text, claim["dataset"], theirs, difference(claim["ours"]), claim["verdict"]])
    return table(["", "set", "paper", "here", "verdict"], rows)


def improvements(findings: Results) -> str:
    """The best settings by tuning, against the paper's method."""
    rows = []
    for field, one in findings["improvements"].items():
        cells = [f"{100 * one['tuning']:+.1f}"]
        for dataset in SETS:
            ours = one["reporting"].get(dataset)
            cells.append("" if ours is None else difference(ours))
        rows.append([field, named(one["best"]), *cells])
    return table(["among", "best in tuning", "in tuning", *SETS], rows)


def defaults(found: Results) -> str:
    """What did best for each kind of target, and whether it became the model's default."""
    rows = []
    for one in found["defaults"]:
        gains = [f"{100 * one['gains'][name]:+.1f}" if name in one["gains"] else "" for name in ("tuning", *SETS)]
        rows.append([one["field"], named(one["best"]), *gains, "adopted" if one["field"] in found["card"] else "not adopted"])
    return table(["", "best in tuning", "in tuning", *SETS, ""], rows)


def thresholds(scores: Results) -> str:
    """The thresholds chosen for the published methods, beside the published."""
    settings = scores["settings"]["generated"]
    rows = []
    for name in PUBLISHED:
        for target in BOTH:
            ours, theirs = (settings.get(key(row, target)) for row in (name, f"{name}, published threshold"))
            if ours and theirs:
                taus = (f"{one['method']['threshold']['tau']:.2f}" for one in (ours, theirs))
                rows.append([named(key(name, target)), *taus])
    return table(["", "tuned", "published"], rows)


def time(profile: Results) -> str:
    """Where the time went."""
    stages = list(profile["seconds"]["all"])
    rows = [[stage, *(f"{spent[what]:.0f}" for what in stages)] for stage, spent in profile["seconds"].items()]
    return table(["CPU seconds", *stages], rows)
