"""docs/results.md: one page with what was measured, what reproduces, and what to choose."""

from collections.abc import Iterator, Mapping, Sequence

from experiments.evaluation import paper
from experiments.evaluation.choices import QUESTIONS, answer
from experiments.evaluation.claims import SETS
from experiments.evaluation.recipes import ONE_SCENE, PUBLISHED_RECIPE, REAL, REAL_4, SCENES
from experiments.evaluation.report import glance, tables
from experiments.evaluation.report.markdown import Results, difference, figure, listed, named, percent, picture, table
from experiments.evaluation.scales import REAL_REPORTING
from experiments.evaluation.settings import POINTS, grids_of, key, named_blocks
from experiments.evaluation.targets import AGAINST_ALL, AGAINST_SCENE, OWN_PROMPT, TOKENS_AGAINST_ALL, WORDS, WORDS_LATE

TABLES = {"1 and 2": "methods against each other", "2": "tokens over words", "4": "post-processing", "5": "resolutions",
          "Fig. 6": "all evaluations over a single one"}  # fmt: skip
COUNTED = ("1 and 2", "2", "4", "5")
"""Tables whose signs are counted among the aims."""
LISTED = ("1 and 2", "2", "4")
"""Tables whose opposite signs are few enough to be read."""
GAIN, GOAL = 0.10, {"voc-sim": 0.75, "coco-cap": 0.60}
FOUND, FOUND_OF_EVERY = 0.85, 0.6
LEAKAGE, SIGNS = 0.45, 0.8
CLOSE = 0.03
HOLDS_BACK = "\n[What holds the missed aims back](results/remedies.md), and what was tried, is on a page of its own.\n"
SIGNS_HOLD = "[How many signs hold](results/tables.md#how-many-signs-hold), table by table, is among the tables.\n\n"
SCENES_SET = "coco-cap"
REMEDIES = {
    WORDS: "a word alone (`softmax: each`)",
    WORDS_LATE: "a word alone, in the second half of the evaluations",
    AGAINST_SCENE: "a word, together with the other things that the prompt mentions",
    AGAINST_ALL: "a word, together with the words of all classes",
    OWN_PROMPT: "a word, in the image's own prompt",
    PUBLISHED_RECIPE: "a token learned from one image of one object",
    ONE_SCENE: "a token learned from one scene",
    SCENES: "a token learned from 8 scenes",
    TOKENS_AGAINST_ALL: "a token, together with the tokens of all classes",
}
"""Targets, as the tables of leakage and of real images call them."""
OF_REAL_IMAGES = {REAL: "a token learned from one real image", REAL_4: "a token learned from 4 real images"}


def page(results: Mapping[str, Results]) -> str:
    """The whole page."""
    scores, findings = results["scores"], results["findings"]
    parts = {
        "The paper at a glance": glance.glance(results),
        "Methods": tables.methods(scores, (*paper.METHODS, *paper.TRAINED))
        + picture("results/", "methods", "mIoU of each method with words and with tokens"),
        "Aims": aims(scores, findings) + (HOLDS_BACK if "remedies" in results else ""),
        "Telling things apart": apart(scores),
        "What reproduces": SIGNS_HOLD + listed((*opposites(findings), *best_grid(scores), *middle(scores))),
        "What to choose": advice(findings) + "\n" + listed(leaders(scores, findings)),
        "Real images of another style": held_out(scores),
        "How true is the truth?": truth(scores),
    }
    head = f"# Results\n\n{introduction(scores)}"
    return head + "".join(f"\n## {title}\n\n{text}" for title, text in parts.items() if text)


def introduction(scores: Results) -> str:
    """What was measured, and how to read it."""
    source = scores["provenance"]
    images = sum(one["images"] for one in scores["sets"].values())
    return f"""The paper's experiments on `{source["model"]}`: {images} images, measured by `{source["command"]}`.
Figures are mIoU in % with the 95 % interval of a bootstrap over images; in brackets are the paper's, of Stable Diffusion 1.5.
Every row has a threshold of its own, tuned on images that nothing else uses. [All tables](results/tables.md) are on a page of
their own. Written by `python -m experiments report`; do not edit.
"""


def aims(scores: Results, findings: Results) -> str:
    """Each aim of the project beside what was reached."""
    rows = [[what, aim, reached, "reached" if enough else "missed"] for what, aim, reached, enough in aimed(scores, findings)]
    return table(["", "aim", "here", ""], rows)


def aimed(scores: Results, findings: Results) -> Iterator[tuple[str, str, str, bool]]:
    """Aims: of what, how much, what was reached, and whether that is enough."""
    rates = found_rates(scores)
    if rates:
        mean, (worst, least) = sum(rates.values()) / len(rates), min(rates.items(), key=lambda item: item[1])
        yield "prompted class found on voc-sim", f"at least {FOUND:.2f}", f"{mean:.2f}", mean >= FOUND
        yield "the same, every class", f"at least {FOUND_OF_EVERY:.2f}", f"{least:.2f} ({worst})", least >= FOUND_OF_EVERY
    gains = {(one["better"], one["dataset"]): one["ours"]["value"] for one in findings["claims"] if one["table"] == "2"}
    name = key("ovam", PUBLISHED_RECIPE)
    for dataset in sets_of(scores):
        if (name, dataset) in gains:
            miou, gain = scores["scores"][dataset][name]["miou"]["value"], gains[name, dataset]
            yield f"OVAM, tokens on {dataset}", f"at least {percent(GOAL[dataset])}", percent(miou), miou >= GOAL[dataset]
            yield f"OVAM, tokens over words on {dataset}", f"at least +{percent(GAIN)}", f"{100 * gain:+.1f}", gain >= GAIN
    found = scores["leakage"].get(SCENES_SET, {})
    for target, where in ((WORDS, ""), (WORDS_LATE, ", in the second half of the evaluations")):
        if target in found:
            what = f"leakage of a word alone{where} (0 told apart, 1 as hot)"
            yield what, f"at most {LEAKAGE}", f"{found[target]:.2f}", found[target] <= LEAKAGE
    verdicts = [claim["verdict"] for claim in findings["claims"] if claim["table"] in COUNTED]
    if verdicts:
        held = verdicts.count("holds") / len(verdicts)
        yield "signs of Tables 1, 2, 4 and 5 that hold", f"at least {100 * SIGNS:.0f} %", f"{100 * held:.0f} %", held >= SIGNS


def found_rates(scores: Results) -> dict[str, float]:
    """How many of a class's images show it clearly, for every class of voc-sim."""
    one = scores["sets"].get("voc-sim")
    return one.get("found", {}) if one else {}


def leaders(scores: Results, findings: Results) -> Iterator[str]:
    """The best settings and whether they are better than the paper's."""
    for field, one in findings["improvements"].items():
        better = [name for name, ours in one["reporting"].items() if ours["low"] > 0 and name in SETS]
        where = f"outside the interval on {' and '.join(better) or 'no set'}"
        of_best = {name: scores["scores"][name].get(one["best"]) for name in sets_of(scores)}
        values = " and ".join(f"{percent(score['miou']['value'])} on {name}" for name, score in of_best.items() if score)
        yield f"The best for {field} is {named(one['best'])}: {values}, better than {named(one['instead of'])} {where}."


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
                found.setdefault(f"{named(one['worse'])} is better than {named(one['better'])}", []).append(one["dataset"])
        if found:
            each = (f"{pair} on {' and '.join(sets)}" for pair, sets in found.items())
            yield f"{titled(name)}, opposite: {'; '.join(each)}."


def best_grid(scores: Results) -> Iterator[str]:
    """Which resolutions are best, and how that compares with the paper."""
    rows, found = [*map(named_blocks, grids_of(scores["provenance"]["resolutions"])), "ovam"], []
    for target in (WORDS, PUBLISHED_RECIPE):
        best = [
            f"{leader.removeprefix('blocks ').replace('ovam', 'all')} on {name} ({percent(value)})"
            for name in sets_of(scores)
            for leader, value in leading(scores, name, target, rows)
        ]
        if best:
            found.append(f"with {target} {' and '.join(best)}; the paper's are {paper.BEST_GRID[target]}")
    if found:
        yield f"Table 5: the best resolutions are {'; '.join(found)}."


def leading(scores: Results, dataset: str, target: str, names: Sequence[str]) -> Iterator[tuple[str, float]]:
    """The setting with the highest mIoU of several, if two or more were measured."""
    found = {name: scores["scores"][dataset].get(key(name, target)) for name in names}
    measured = {name: one["miou"]["value"] for name, one in found.items() if one}
    if len(measured) > 1:
        yield max(measured.items(), key=lambda item: item[1])


def middle(scores: Results) -> Iterator[str]:
    """Whether one evaluation is as good as all, with tokens."""
    told = []
    for dataset in sets_of(scores):
        of_set = scores["scores"][dataset]
        single = {point: of_set.get(key(f"single {point}", PUBLISHED_RECIPE)) for point in POINTS["single"]}
        found = {point: one["miou"]["value"] for point, one in single.items() if one}
        if found:
            best = max(found, key=lambda point: found[point])
            all_of_them = of_set[key("daam", PUBLISHED_RECIPE)]["miou"]["value"]
            close = "within" if found[best] > all_of_them - CLOSE else "more than"
            told.append(
                f"on {dataset} {percent(found[best])} ({best} of 30), {close} {100 * CLOSE:.0f} points of all together "
                f"({percent(all_of_them)})"
            )
    if told:
        yield f"Fig. 6: with tokens the best single evaluation gives {'; '.join(told)}. The paper found them close."


def apart(scores: Results) -> str:
    """How far heat tells one thing from another, and what that does to masks of scenes."""
    found = scores["leakage"].get(SCENES_SET, {})
    if not found:
        return ""
    rows = []
    for target, what in sorted(REMEDIES.items(), key=lambda item: found.get(item[0], 1.0)):
        if target in found:
            keys = [key(f"{name}, late", WORDS) if target == WORDS_LATE else key(name, target) for name in tables.WAYS]
            masks = [figure(scores, SCENES_SET, name) for name in keys]
            rows.append([what, f"{found[target]:.2f}", *masks])
    head = ["target", "leakage", *(f"mIoU, {name}" for name in tables.WAYS)]
    return (
        f"Images of {SCENES_SET} show several things. *Leakage* is the heat that the others get as a fraction of the heat of the "
        "one that is looked for, both above the ground's: 0 means told apart, 1 means as hot.\n\n"
        f"{table(head, rows)}"
    )


def held_out(scores: Results) -> str:
    """What is found in real images of the style that nothing was trained on."""
    best, (alone, scenes) = tables.WAYS[-1], REAL_REPORTING
    leaks, rows = scores["leakage"].get(scenes, {}), []
    for target, what in (REMEDIES | OF_REAL_IMAGES).items():
        found = [figure(scores, name, key(best, target)) for name in REAL_REPORTING]
        if any(found):
            rows.append([what, *found, f"{leaks[target]:.2f}" if target in leaks else ""])
    if not rows:
        return ""
    return (
        "Images that the model did not make, in the one style of the world that neither it nor an annotator has seen, with exact "
        f"masks: `{alone}` shows one thing, `{scenes}` several. mIoU of {best}.\n\n"
        f"{table(['target', alone, scenes, f'leakage, {scenes}'], rows)}"
    )


def truth(scores: Results) -> str:
    """What is known of the masks that count as true."""
    source = scores["provenance"]
    if source["data set"]:
        return f"The masks are those of `{source['data set']}`.\n"
    errors = "; ".join(f"{what}: {percent(value)}" for what, value in source["annotators"].items())
    text = f"Masks are painted by an annotator, a small network trained on scenes with exact masks. Its mIoU, in %: {errors}.\n"
    agreement = [
        f"{figure(scores, name, tables.SECOND_ANNOTATOR)} on {name}"
        for name in sets_of(scores)
        if tables.SECOND_ANNOTATOR in scores["scores"][name]
    ]
    if not agreement:
        return text
    return (
        f"{text}\nA second annotator of another architecture agrees with it to {' and '.join(agreement)} (mIoU): "
        "differences between methods that are smaller than what is missing to 100 are within the uncertainty of the truth.\n"
    )
