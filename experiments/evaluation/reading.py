"""What the results say, as far as rules can tell."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.evaluation.claims import SETS
from experiments.evaluation.recipes import PUBLISHED_RECIPE
from experiments.evaluation.settings import METHODS, POINTS, key

Results = Mapping[str, Any]
TABLES = {"1 and 2": "methods against each other", "2": "tokens over words", "4": "post-processing", "5": "blocks",
          "Fig. 6": "all evaluations over single ones"}  # fmt: skip
GAIN, GOAL = 0.10, {"voc-sim": 0.75, "coco-cap": 0.65}
CLOSE = 0.03


def reading(scores: Results, findings: Results) -> str:
    """The verdicts, a line each."""
    return "".join(f"- {line}\n" for line in (*aims(scores, findings), *signs(findings), *middle(scores), *confusion(scores)))


def signs(findings: Results) -> Iterator[str]:
    """How many of the signs of every table hold, and which do not."""
    for name, what in TABLES.items():
        mine = [claim for claim in findings["claims"] if claim["table"] == name]
        verdicts = {
            verdict: [one for one in mine if one["verdict"] == verdict] for verdict in ("holds", "not decided", "opposite")
        }
        line = (
            f"**Table {name}** ({what}): " if name[0].isdigit() else f"**{name}** ({what}): "
        ) + f"of {len(mine)} signs {len(verdicts['holds'])} hold, {len(verdicts['not decided'])} are within the interval"
        opposite = [f"{one['better']} over {one['worse']} on {one['dataset']}" for one in verdicts["opposite"]]
        yield f"{line}, {len(opposite)} are opposite{': ' if opposite else ''}{'; '.join(opposite)}.".replace(" | ", ", ")


def measured(scores: Results) -> list[str]:
    """The sets that there are."""
    return [name for name in SETS if name in scores["scores"]]


def aims(scores: Results, findings: Results) -> Iterator[str]:
    """Whether what was aimed at is reached."""
    gains = {(one["better"], one["dataset"]): one["ours"]["value"] for one in findings["claims"] if one["table"] == "2"}
    for dataset in measured(scores):
        miou = scores["scores"][dataset][key("ovam", PUBLISHED_RECIPE)]["miou"]["value"]
        more = gains[key("ovam", PUBLISHED_RECIPE), dataset]
        raised = [name for name in METHODS if gains[key(name, PUBLISHED_RECIPE), dataset] > 0]
        yield (
            f"On {dataset} learned tokens raise OVAM by {100 * more:.1f} points (aim: {100 * GAIN:.0f}, "
            f"{'reached' if more >= GAIN else 'missed'}) to {100 * miou:.1f} (aim: {100 * GOAL[dataset]:.0f}, "
            f"{'reached' if miou >= GOAL[dataset] else 'missed'}); they raise {len(raised)} of {len(METHODS)} methods."
        )
    for field, one in findings["improvements"].items():
        better = [name for name, ours in one["reporting"].items() if ours["low"] > 0 and name in SETS]
        where = f"outside the interval on {' and '.join(better) or 'no set'}"
        yield f"The best for {field}, {one['best']}, is better than {one['instead of']} {where}.".replace(" | ", ", ")


def middle(scores: Results) -> Iterator[str]:
    """Whether one evaluation is as good as all, with tokens."""
    for dataset in measured(scores):
        of_set = scores["scores"][dataset]
        single = {point: of_set.get(key(f"single {point}", PUBLISHED_RECIPE)) for point in POINTS["single"]}
        found = {point: one["miou"]["value"] for point, one in single.items() if one}
        if found:
            best = max(found, key=lambda point: found[point])
            all_of_them = of_set[key("daam", PUBLISHED_RECIPE)]["miou"]["value"]
            close = "within" if found[best] > all_of_them - CLOSE else "more than"
            yield (
                f"With tokens on {dataset} the best single evaluation, {best} of 30, gives {100 * found[best]:.1f}: "
                f"{close} {100 * CLOSE:.0f} points of all together, {100 * all_of_them:.1f}."
            )


def confusion(scores: Results) -> Iterator[str]:
    """How far heat tells one object from another."""
    found = scores["selectivity"].get("coco-cap", {})
    if found:
        told = ", ".join(f"{asked} {value:.2f}" for asked, value in sorted(found.items(), key=lambda item: item[1]))
        yield (
            "Heat that other objects of a scene get, as a share of what the object that was asked for gets, both above the "
            f"ground's (0: told apart, 1: not at all): {told}."
        )
