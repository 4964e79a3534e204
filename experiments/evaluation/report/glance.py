"""The paper at a glance: every experiment, what the paper claims of it, whether that holds here, and where to read on."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from experiments.evaluation import paper
from experiments.evaluation.claims import SETS
from experiments.evaluation.report import data_set
from experiments.evaluation.report import segmentation as table3
from experiments.evaluation.report.markdown import Results, named, percent, table
from experiments.evaluation.settings import POINTS, PUBLISHED, key

All = Mapping[str, Results]
Row = tuple[str, str, str, str, str]
"""The experiment, its claim, whether it holds, the figures here and the paper's, and where they are."""
TABLES = "results/tables.md#"
GROUNDED, PERCEIVING = "grounded-diffusion", "datasetdm-published"
HEAD = ("experiment", "the paper's claim", "holds here?", "here (the paper)", "more")


def glance(results: All) -> str:
    """The table; experiments that were not measured say so."""
    rows = [list(row) for part in PARTS for row in part(results)]
    few = {} if of_evaluation(results) else results.get("trained", {}).get("provenance", {}).get("images", {})
    note = f" Trained methods are measured on {sum(few.values())} of the images." if few else ""
    return (
        "*Signs* are the differences that a claim is about: one holds, or is opposite, if its 95 % interval excludes 0."
        f"{note}\n\n{table(HEAD, rows)}"
    )


def verdict(claims: Sequence[Results]) -> str:
    """Whether claims hold: all, none or some of their signs."""
    found = [one["verdict"] for one in claims]
    held, opposite = found.count("holds"), found.count("opposite")
    if not found:
        return "not measured"
    if held == len(found):
        return "**yes**"
    answer = "**in part**" if held else "**no**" if opposite else "undecided"
    return f"{answer}: {held} of {len(found)} signs hold, {opposite} opposite"


def of_table(findings: Results, name: str, *, trained: bool = False) -> list[Results]:
    """The claims of a table: about methods without networks of their own, or about the others."""
    several = [one for one in findings["claims"] if one["table"] == name]
    return [one for one in several if (one["better"].split(" | ")[0] in paper.TRAINED) is trained]


def miou(scores: Results, name: str, target: str, rows: Mapping[str, paper.Four]) -> str:
    """The mIoU of a row on both sets, with the paper's."""
    found = {dataset: scores["scores"].get(dataset, {}).get(key(name, target)) for dataset in SETS}
    return "; ".join(
        f"{dataset} {percent(one['miou']['value'])} ({paper.of(rows[name], dataset, target)})"
        for dataset, one in found.items()
        if one
    )


def points(claims: Sequence[Results]) -> str:
    """By how much the better of each claim is better, with the paper's difference."""
    return "; ".join(f"{one['dataset']} {100 * one['ours']['value']:+.1f} ({one['paper']:+.1f})" for one in claims)


def methods(results: All) -> Iterator[Row]:
    """Tables 1 and 2, the methods without networks."""
    scores, findings = results["scores"], results["findings"]
    link = f"[tables]({TABLES}tables-1-and-2-methods-with-words-and-with-learned-tokens)"
    yield (
        "Tables 1, 2: methods", "OVAM, then Attn2Mask, then DAAM, with words and with tokens",
        verdict(of_table(findings, "1 and 2")), f"OVAM, tokens: {miou(scores, 'ovam', 'tokens', paper.METHODS)}", link,
    )  # fmt: skip
    gains = of_table(findings, "2")
    of_ovam = [one for one in gains if one["better"].startswith("ovam")]
    yield (
        "Table 2: tokens", "an optimised token is better than the word for each of them", verdict(gains),
        f"OVAM: {points(of_ovam)}", "[what holds them back](results/remedies.md)" if "remedies" in results else link,
    )  # fmt: skip


def networks(results: All) -> Iterator[Row]:
    """Tables 1 and 2, the methods with networks; Fig. 5."""
    found, page = of_evaluation(results) or results.get("trained"), "results/trained.md"
    if found is None:
        yield "Tables 1, 2: trained methods", "tokens raise Grounded Diffusion most", "not measured", "", ""
        return
    link = f"[the trained methods]({page})"
    why = f"[why]({page}#why-tokens-do-not-help-here-and-why-datasetdm-ignores-its-text)" if "explained" in results else link
    gains = of_table(found, "2", trained=True)
    for name, by in ((GROUNDED, "more than 20 points"), (PERCEIVING, "a little")):
        mine = [one for one in gains if one["better"].startswith(f"{name} |")]
        yield f"Table 2: {named(name)}", f"tokens raise it by {by}", verdict(mine), points(mine), why
    best = verdict(of_table(found, "1 and 2", trained=True))
    figures = miou(found, GROUNDED, "tokens", paper.TRAINED)
    yield "Tables 1, 2: the best", "Grounded Diffusion with tokens is the best of the five", best, figures, link
    by_class = f"[class by class]({page}#class-by-class-fig-5)"
    yield "Fig. 5: classes", "tokens help nearly every class", *classes(found), by_class


def of_evaluation(results: All) -> Results | None:
    """What the evaluation says of trained methods, if they took part in it: on more images than `measure-trained`."""
    scores = results["scores"]["scores"]
    took_part = all(key(GROUNDED, "tokens") in scores.get(name, {}) for name in SETS)
    return {"scores": scores, "claims": results["findings"]["claims"]} if took_part else None


def classes(found: Results) -> tuple[str, str]:
    """In how many classes of Table 2 tokens help which method on coco-cap."""
    of_set = found["scores"]["coco-cap"]
    here, theirs = [], []
    for name in (*PUBLISHED, *paper.TRAINED):
        words, tokens = (of_set.get(key(name, target), {}).get("by_class", {}) for target in ("words", "tokens"))
        here += [tokens[each] > words[each] for each in paper.CLASSES if each in words and each in tokens]
        theirs += [
            one > other for one, other in zip(*(paper.BY_CLASS[name, target] for target in ("tokens", "words")), strict=True)
        ]
    share, aim = (sum(each) / max(len(each), 1) for each in (here, theirs))
    holds = "**yes**" if share >= aim else "**no**" if share <= 0.5 else "**in part**"
    return holds, f"{sum(here)} of {len(here)} classes and methods ({sum(theirs)} of {len(theirs)})"


def factory(results: All) -> Iterator[Row]:
    """Section 4.3."""
    name, found = "Section 4.3: a data set", results.get("data-set")
    claim = "filters leave two thirds of the images that OVAM has annotated"
    if found is None:
        yield name, claim, "not measured", "", ""
        return
    both = found["before"], found["presets"]["paper"]["after"]
    stay = data_set.share(both[1]["images"], both[0]["images"])
    images, figures = [str(one["images"]) for one in both], [percent(one["miou"]["value"]) for one in both]
    counts = f"{arrow(*images)} images ({arrow(*map(str, data_set.PAPER))}), mIoU of their masks {arrow(*figures)}"
    yield name, claim, f"{stay} stay{'' if found['clip'] else ', without CLIP'}", counts, "[the data set](results/data-set.md)"


def arrow(before: str, after: str) -> str:
    """What became of something."""
    return f"{before} → {after}"


def segmentation(results: All) -> Iterator[Row]:
    """Table 3."""
    claims = {
        "reaches": "trained on it and then on half of the real images, a network is as good as on all of them",
        "beats": "and then on all of them, it is better",
    }
    found = results.get("segmentation")
    for what, claim in claims.items():
        if found is None:
            yield "Table 3", claim, "not measured", "", ""
            continue
        networks: Sequence[Results] = list(found["networks"].values())
        by_rate = list(zip(*(one["aims"] for one in networks), strict=True))
        held = [f"at {table3.rate(several[0])} {holding([one[what] for one in several])}" for several in by_rate]
        told = [f"{name} {of_rates(one, what)}" for name, one in found["networks"].items()]
        yield "Table 3", claim, "; ".join(held), "; ".join(told), "[Table 3](results/segmentation.md)"


def holding(verdicts: Sequence[str]) -> str:
    """Of how many networks a claim holds."""
    held, undecided = verdicts.count("holds"), verdicts.count("not decided")
    whole = "**yes**" if held == len(verdicts) else "**in part**" if held else "**no**"
    return f"{whole}: {held} of {len(verdicts)} networks" + (f", {undecided} undecided" if undecided else "")


def of_rates(network: Results, what: str) -> str:
    """By how many points a network's second stages are better than real images alone, at each rate."""
    return ", ".join(f"{100 * one[f'{what} by']:+.1f}" for one in network["aims"])


def choices(results: All) -> Iterator[Row]:
    """Tables 4 and 5, and Fig. 6."""
    scores, findings = results["scores"], results["findings"]
    four = of_table(findings, "4")
    crf = [
        one
        for one in four
        if one["better"].startswith("ovam |") and one["worse"].startswith("daam |") and one["better"].endswith("words")
    ]
    yield (
        "Table 4: post-processing", "self-attention, dCRF, and both are better than plain heat", verdict(four),
        f"both, words: {points(crf)}", f"[Table 4]({TABLES}table-4-post-processing)",
    )  # fmt: skip
    five = of_table(findings, "5")
    yield (
        "Table 5: blocks", "all blocks together are best or close to it; the coarsest are the best alone", verdict(five),
        f"all blocks, words: {miou(scores, 'ovam', 'words', paper.METHODS)}", f"[Table 5]({TABLES}table-5-resolutions)",
    )  # fmt: skip
    six = verdict(of_table(findings, "Fig. 6"))
    claim = "all evaluations together are better than a single one"
    yield "Fig. 6: evaluations", claim, six, singles(scores), f"[Fig. 6]({TABLES}fig-6-evaluations)"


def singles(scores: Results) -> str:
    """The best single evaluation beside all of them, with tokens."""
    found = []
    for dataset in SETS:
        of_set = scores["scores"].get(dataset, {})
        alone = [of_set[name] for point in POINTS["single"] if (name := key(f"single {point}", "tokens")) in of_set]
        if alone and (whole := of_set.get(key("daam", "tokens"))):
            found.append(
                f"{dataset} {percent(whole['miou']['value'])}, best single {percent(max(one['miou']['value'] for one in alone))}"
            )
    return f"tokens: {'; '.join(found)}" if found else ""


PARTS: Sequence[Callable[[All], Iterator[Row]]] = (methods, networks, factory, segmentation, choices)
