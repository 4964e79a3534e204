"""docs/results/remedies.md: what was tried against the aims that are missed, and what holds them back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from experiments.evaluation.recipes import COUNTS, FINE, JOINT, ONE_IMAGE, ONE_SCENE, PUBLISHED_RECIPE, SCENES
from experiments.evaluation.report.markdown import Results, bounds, figure, listed, percent, table
from experiments.evaluation.settings import key
from experiments.evaluation.targets import AGAINST_ALL, AGAINST_SCENE, OWN_PROMPT, TOKENS_AGAINST_ALL, WORDS

WHOLE = "affinity 1 + dCRF"
REPORTING = ("voc-sim", "coco-cap")
VOC, COCO = "voc-sim-tuning", "coco-cap-tuning"
GRID_CEILING, SECOND = "the best map of the model's grid", "the second annotator's mask"
ONE, ONE_LATE, SCENES_TOKEN, MIXED = (
    "token of an object",
    "token of an object, late",
    "token of scenes",
    "token of objects and scenes",
)
ITSELF, CLASS = "token of the image itself", "token of these images of its class"
LATE_WORDS, LATE_AGAINST_ALL = f"{WORDS}, late", f"{AGAINST_ALL}, late"
HEAD = "# What holds the missed aims back\n\nThe [first page](../results.md) has the aims.\n"


@dataclass(frozen=True)
class Remedy:
    """Something that was tried: the keys of a setting without it and with it, and what came of it."""

    what: str
    before: str
    after: str
    kept: str
    limit: str
    """Which of model, captions, method and annotator it shows to be the limit."""


def way(name: str, before: str, after: str) -> tuple[str, str]:
    """The keys of one way to masks, for two targets."""
    return key(name, before), key(name, after)


CHOICE = "a choice of requests"
REMEDIES: tuple[Remedy, ...] = (
    Remedy("words: the second half of the evaluations", key("affinity 1", WORDS), key("affinity 1, late", WORDS),
           "the model's default", "method: the first evaluations see noise"),
    Remedy("words: the 16 x 16 grid alone", key("affinity 1", WORDS), key("affinity 1, finest", WORDS), "no", "method"),
    Remedy("words: that grid in the second half", key("affinity 1", WORDS), key("affinity 1, finest, late", WORDS),
           "no", "method"),
    Remedy("words: that grid in OVAM as published", key("ovam", WORDS), key("blocks 16", WORDS), "no", "method"),
    Remedy("words: in one softmax with the words of all classes", *way(WHOLE, WORDS, AGAINST_ALL), CHOICE, "method"),
    Remedy("words: in one softmax with the others of the prompt", *way(WHOLE, WORDS, AGAINST_SCENE), CHOICE, "method"),
    Remedy("words: in the image's own prompt", *way("affinity 1", WORDS, OWN_PROMPT), CHOICE, "captions"),
    Remedy("words: another sentence around it", *way("affinity 1", WORDS, "unseen sentence"), CHOICE, "captions"),
    Remedy("tokens: the second half of the evaluations", key("affinity 1", PUBLISHED_RECIPE),
           key("affinity 1, late", PUBLISHED_RECIPE), "no", "not the method"),
    Remedy("tokens: learned and used on the 16 x 16 grid alone", key("affinity 1", ONE_IMAGE), key("affinity 1, finest", FINE),
           "no", "not the method"),
    Remedy("tokens: 8 objects instead of 1", *way(WHOLE, ONE_IMAGE, COUNTS[8]), CHOICE, "annotations"),
    Remedy("tokens: a scene instead of an object", *way(WHOLE, ONE_IMAGE, ONE_SCENE), "no", "annotations"),
    Remedy("tokens: 8 scenes instead of an object", *way(WHOLE, ONE_IMAGE, SCENES), CHOICE, "annotations"),
    Remedy("tokens: in one softmax with the tokens of all classes", *way(WHOLE, PUBLISHED_RECIPE, TOKENS_AGAINST_ALL), "no",
           "not the method"),
    Remedy("tokens: all classes learned jointly", *way("affinity 1", ONE_IMAGE, JOINT), "no", "not the method"),
)  # fmt: skip
"""What the full evaluation has measured."""


def page(results: Mapping[str, Results]) -> str:
    """The whole page."""
    scores, tried = results["scores"], results.get("remedies")
    parts = {"Remedies that the evaluation has measured": measured(scores)}
    if tried:
        parts |= {"What cannot be had": ceilings(tried), "Which limit it is": listed(verdicts(tried))}
    return HEAD + "".join(f"\n## {title}\n\n{text}" for title, text in parts.items())


def measured(scores: Results) -> str:
    """Every remedy before and after, in tuning and in reporting."""
    settings, rows = scores["settings"]["generated"], []
    for one in REMEDIES:
        if one.before in settings and one.after in settings:
            tuning = [percent(settings[name]["tuning"]["mean"]) for name in (one.before, one.after)]
            reporting = [arrow(*(figure(scores, name, each) for each in (one.before, one.after))) for name in REPORTING]
            rows.append([one.what, arrow(*tuning), *reporting, one.kept, one.limit])
    head = ["remedy", "tuning, mean of both sets", *REPORTING, "kept", "the limit is"]
    return (
        "mIoU in %, before and after, with 95 % intervals. Thresholds and choices are made on the tuning sets; the reporting "
        f"sets confirm them or do not.\n\n{table(head, rows)}"
    )


def arrow(before: str, after: str) -> str:
    """A figure before and after."""
    return f"{before} → {after}"


def ceilings(tried: Results) -> str:
    """What was measured on images of the tuning sets: ceilings, and ways of learning tokens."""
    sets = tried["sets"]
    names = dict.fromkeys(name for one in sets.values() for name in one["miou"])
    rows = []
    for name in names:
        target = name.split(" | ")[-1]
        leaks = [one["leakage"].get(target) for one in sets.values() if name.startswith("min-max")]
        told = [f"{leak:.2f}" for leak in leaks[-1:] if leak is not None] or [""]
        rows.append([name.replace(" | ", ", "), *(interval(one["miou"].get(name)) for one in sets.values()), *told])
    images = " and ".join(f"{one['images']} of {name}" for name, one in sets.items())
    source = tried["provenance"]
    return (
        f"`{source['command']}`: {images}, of the {len(source['classes'])} classes of Table 2's columns. No token was learned "
        "from them, except where a row says so. Every row has the threshold that is best on these very images. The last column "
        f"is the leakage on scenes.\n\n{table(['', *sets, 'leakage'], rows)}"
    )


def interval(miou: Results | None) -> str:
    """A figure with its interval, or nothing."""
    return "" if miou is None else f"{percent(miou['value'])} {bounds(miou)}"


def verdicts(tried: Results) -> Iterator[str]:
    """Aim by aim, which of model, captions, method and annotator holds it back, with the figures that say so."""

    def at(dataset: str, name: str) -> str:
        found = tried["sets"][dataset]["miou"]
        return percent(found[name if name in found else key("affinity 1", name)]["value"])

    plain = [at(VOC, key("min-max", name)) for name in (WORDS, ITSELF)]

    yield (
        f"**Tokens 10 points over words, voc-sim: the model.** With affinity, a word gives {at(VOC, WORDS)}, in the second "
        f"half of the evaluations {at(VOC, LATE_WORDS)}. A token that has seen the annotation of the very image gives "
        f"{at(VOC, ITSELF)}, so no way of learning tokens gains 10 points here (without affinity: {plain[0]} and "
        f"{plain[1]}). The best map of the grid gives {at(VOC, GRID_CEILING)}, the second annotator's mask "
        f"{at(VOC, SECOND)}: neither grid nor annotators are the limit, but what the model's queries tell apart."
    )
    yield (
        "**Tokens of 60, and 10 points over words, coco-cap: model and annotations.** A token that has seen the very image gives "
        f"{at(COCO, ITSELF)}, one that has seen all of these images of its class {at(COCO, CLASS)}; a word gives "
        f"{at(COCO, WORDS)}, in the second half {at(COCO, LATE_WORDS)}. An annotated object does not say what the class is not: "
        f"with scenes it gives {at(COCO, MIXED)}, alone {at(COCO, ONE_LATE)}."
    )
    found = tried["sets"][COCO]["leakage"]
    yield (
        f"**Leakage of a word alone: the method.** On these scenes it falls from {found[WORDS]:.2f} to {found[LATE_WORDS]:.2f} "
        "in the second half of the evaluations, which is the bundled model's default for words. Training the model further on "
        "crowded scenes [lowers it less, and it draws worse](../../models/world/README.md#what-did-not-help)."
    )
    yield (
        f"**Not the annotator.** On scenes the second annotator's masks reach {at(COCO, SECOND)}: a bound for every figure, and "
        "far above all of them."
    )
