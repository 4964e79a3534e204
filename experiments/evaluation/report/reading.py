"""What the results say, as far as rules can tell: the beginning of the page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.evaluation.asking import VOCABULARY
from experiments.evaluation.choices import QUESTIONS, answer
from experiments.evaluation.claims import BOTH, SETS
from experiments.evaluation.paper import BEST_ALONE, BEST_GRID
from experiments.evaluation.recipes import FINE, FINE_OF_SCENES, PUBLISHED_RECIPE
from experiments.evaluation.report.markdown import difference, figure, named, percent, table
from experiments.evaluation.settings import METHODS, POINTS, grids_of, key, named_blocks

Results = Mapping[str, Any]
TABLES = {"1 and 2": "methods against each other", "2": "tokens over words", "4": "post-processing", "5": "resolutions",
          "Fig. 6": "all evaluations over a single one"}  # fmt: skip
LISTED = ("1 and 2", "2", "4")
"""Tables whose opposite signs are few enough to be read."""
GAIN, GOAL = 0.10, {"voc-sim": 0.75, "coco-cap": 0.65}
CLOSE = 0.03
TOLD_APART = 0.5  # of the heat: where other objects get less, a threshold can part them
SCENES = "coco-cap"
REMEDIES = {
    "words": "a word, in a sentence with no other object",
    "word alone": "a word alone",
    "unseen sentence": "a word, in another sentence",
    "own prompt": "a word, in the image's own prompt",
    VOCABULARY: "a word, in one softmax with those of all classes",
    PUBLISHED_RECIPE: "a token of one image of one object",
    "tokens of a scene": "a token of one scene",
    "tokens of 8 scenes": "a token of 8 scenes",
    FINE: "a token of one image of one object, by the finest grid",
    FINE_OF_SCENES: "a token of 8 scenes, by the finest grid",
    "joint tokens": "a token, learned jointly of an image a class",
    "joint tokens of scenes": "a token, learned jointly of a scene a class",
    "joint tokens of 2 scenes": "a token, learned jointly of 2 scenes a class",
}
"""What was asked so that other objects stay cold."""


def reading(scores: Results, findings: Results) -> str:
    """The verdicts and what they come from."""
    parts = {
        "What was aimed at": lines(aims(scores, findings)),
        "What reproduces": signs(findings) + "\n" + lines((*opposites(findings), *best_grid(scores), *middle(scores))),
        "Telling objects apart": apart(scores),
        "What to choose": advice(findings),
    }
    return "\n".join(f"### {title}\n\n{text}" for title, text in parts.items() if text)


def lines(each: Sequence[str] | Iterator[str]) -> str:
    """A list of Markdown."""
    return "".join(f"- {line}\n" for line in each)


def plain(name: str) -> str:
    """A setting's key in words."""
    return named(name.replace(" | ", ", "))


def aims(scores: Results, findings: Results) -> Iterator[str]:
    """Whether what was aimed at is reached."""
    gains = {(one["better"], one["dataset"]): one["ours"]["value"] for one in findings["claims"] if one["table"] == "2"}
    for dataset in sets_of(scores):
        miou = scores["scores"][dataset][key("ovam", PUBLISHED_RECIPE)]["miou"]["value"]
        more = gains[key("ovam", PUBLISHED_RECIPE), dataset]
        raised = [name for name in METHODS if gains[key(name, PUBLISHED_RECIPE), dataset] > 0]
        yield (
            f"On {dataset} learned tokens raise OVAM by {100 * more:.1f} points (aim: {100 * GAIN:.0f}, "
            f"{'reached' if more >= GAIN else 'missed'}) to {percent(miou)} (aim: {100 * GOAL[dataset]:.0f}, "
            f"{'reached' if miou >= GOAL[dataset] else 'missed'}); they raise {len(raised)} of {len(METHODS)} methods."
        )
    for field, one in findings["improvements"].items():
        better = [name for name, ours in one["reporting"].items() if ours["low"] > 0 and name in SETS]
        where = f"outside the interval on {' and '.join(better) or 'no set'}"
        values = " and ".join(
            f"{percent(scores['scores'][name][one['best']]['miou']['value'])} on {name}" for name in sets_of(scores)
        )
        yield f"The best for {field} is {plain(one['best'])}: {values}, better than {plain(one['instead of'])} {where}."


def advice(findings: Results) -> str:
    """What a user should choose, question by question."""
    found = {(one["better"], one["worse"], one["dataset"]): one for one in findings["claims"] if one["table"] == "beyond"}
    rows = []
    for question in QUESTIONS:
        keys = {name: (question.better, question.worse, name) for name in SETS}
        measured = {name: found[one] for name, one in keys.items() if one in found}
        if measured:
            signed = {name: 0.0 if one["verdict"] == "not decided" else one["ours"]["value"] for name, one in measured.items()}
            cells = [difference(measured[name]["ours"]) if name in measured else "" for name in SETS]
            rows.append([question.about, answer(question, signed), f"{question.first} over {question.second}", *cells])
    return table(["", "choose", "compared", *SETS], rows)


def sets_of(scores: Results) -> list[str]:
    """Those of the reporting sets that were measured."""
    return [name for name in SETS if name in scores["scores"]]


def titled(name: str) -> str:
    """A table's title."""
    return name if name.startswith("Fig") else f"{'Tables' if ' and ' in name else 'Table'} {name}"


def signs(findings: Results) -> str:
    """How many of the signs of every table hold."""
    rows = []
    for name, what in TABLES.items():
        verdicts = [claim["verdict"] for claim in findings["claims"] if claim["table"] == name]
        counts = [str(verdicts.count(verdict)) for verdict in ("holds", "not decided", "opposite")]
        rows.append([f"{titled(name)}: {what}", str(len(verdicts)), *counts])
    return table(["the paper's signs", "of", "hold", "within the interval", "opposite"], rows)


def opposites(findings: Results) -> Iterator[str]:
    """Which signs are opposite, where they are few."""
    for name in LISTED:
        found: dict[str, list[str]] = {}
        for one in findings["claims"]:
            if one["table"] == name and one["verdict"] == "opposite":
                found.setdefault(f"{plain(one['worse'])} is better than {plain(one['better'])}", []).append(one["dataset"])
        if found:
            each = (f"{pair} on {' and '.join(sets)}" for pair, sets in found.items())
            yield f"{titled(name)}, opposite: {'; '.join(each)}."


def best_grid(scores: Results) -> Iterator[str]:
    """Which resolutions are best, and how that compares with the paper."""
    resolutions = scores["provenance"]["resolutions"]
    rows = [*map(named_blocks, grids_of(resolutions)), "ovam"]
    for asked in BOTH:
        best = [
            f"{leader.removeprefix('blocks ').replace('ovam', 'all')} on {name} ({percent(value)})"
            for name in sets_of(scores)
            for leader, value in leading(scores, name, asked, rows)
        ]
        if best:
            yield f"Table 5: with {asked} the best grids are {' and '.join(best)}; the paper's are {BEST_GRID[asked]}."
    alone = [named_blocks((resolution,)) for resolution in resolutions]
    leaders = {name for one in sets_of(scores) for asked in BOTH for name, _ in leading(scores, one, asked, alone)}
    if leaders == {named_blocks((BEST_ALONE,))} and resolutions[0] == BEST_ALONE:
        yield (
            f"Table 5: of single grids that of {BEST_ALONE} x {BEST_ALONE} is best everywhere, as in the paper. There it is the "
            "coarsest of three, here the finest: the signs, which go by rank, are opposite; by the number of cells both agree."
        )


def leading(scores: Results, dataset: str, asked: str, names: Sequence[str]) -> Iterator[tuple[str, float]]:
    """The setting with the highest mIoU of several, if two or more were measured."""
    found = {name: scores["scores"][dataset].get(key(name, asked)) for name in names}
    measured = {name: one["miou"]["value"] for name, one in found.items() if one}
    if len(measured) > 1:
        yield max(measured.items(), key=lambda item: item[1])


def middle(scores: Results) -> Iterator[str]:
    """Whether one evaluation is as good as all, with tokens."""
    for dataset in sets_of(scores):
        of_set = scores["scores"][dataset]
        single = {point: of_set.get(key(f"single {point}", PUBLISHED_RECIPE)) for point in POINTS["single"]}
        found = {point: one["miou"]["value"] for point, one in single.items() if one}
        if found:
            best = max(found, key=lambda point: found[point])
            all_of_them = of_set[key("daam", PUBLISHED_RECIPE)]["miou"]["value"]
            close = "within" if found[best] > all_of_them - CLOSE else "more than"
            yield (
                f"Fig. 6: with tokens on {dataset} the best single evaluation, {best} of 30, gives {percent(found[best])}: "
                f"{close} {100 * CLOSE:.0f} points of all together, {percent(all_of_them)}, as the paper found."
            )


def apart(scores: Results) -> str:
    """How far heat tells one object from another, and what that does to masks of scenes."""
    found = scores["selectivity"].get(SCENES, {})
    if not found:
        return ""
    rows = []
    for asked, what in sorted(REMEDIES.items(), key=lambda item: found.get(item[0], 1.0)):
        if asked in found:
            masks = [figure(scores, SCENES, key(name, asked)) for name in ("min-max", "affinity 1")]
            rows.append([what, f"{found[asked]:.2f}", *masks])
    return f"{why(found)}\n{table(['asked for', 'heat of others', 'mIoU, min-max', 'mIoU, affinity 1'], rows)}"


def why(found: Mapping[str, float]) -> str:
    """What the heat of other objects says, in words."""
    words, tokens, prompt = (found.get(asked, 1.0) for asked in ("words", PUBLISHED_RECIPE, "own prompt"))
    together = (
        "Where words compete in one softmax the very same queries part the objects better: the pixels know what they show, but a "
        "lone noun is asked against words without content, and to those every object prefers it."
        if min(prompt, found.get(VOCABULARY, 1.0)) < words - 0.1
        else "Letting words compete in one softmax does not part them better."
    )
    learned = "no better" if tokens >= words - 0.02 else "better"
    hot = "No threshold can part what is as hot." if max(words, tokens) > TOLD_APART else "Most of the heat is where it belongs."
    return (
        f"Images of {SCENES} show several objects. What the others get of the heat of the one that was asked for, both above the "
        f"ground's (0: told apart, 1: as hot), is {words:.2f} for its word and {tokens:.2f} for a learned token: a token of an "
        f"image of one object learns to part it from the ground, and parts objects {learned}. {hot} {together}\n"
    )
