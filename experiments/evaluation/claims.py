"""What the paper says is better than what, and what is worth asking beyond it: each is a difference on the same images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from experiments.evaluation import paper
from experiments.evaluation.asking import VOCABULARY
from experiments.evaluation.choices import QUESTIONS
from experiments.evaluation.recipes import COUNTS, ONE_IMAGE, PUBLISHED_RECIPE
from experiments.evaluation.scores import Counts, Interval, gain
from experiments.evaluation.settings import POINTS, grids_of, key, named_blocks

Verdict = Literal["holds", "opposite", "not decided"]
SETS = ("voc-sim", "coco-cap")
BOTH = ("words", PUBLISHED_RECIPE)


@dataclass(frozen=True)
class Claim:
    """That one setting is better than another on a set, by so many points in the paper."""

    table: str
    better: str
    """The key of a setting."""
    worse: str
    dataset: str
    paper: float | None = None
    """Points of mIoU; none where the paper says so in words, or nothing."""
    said: bool = True
    """Whether the paper says it; else `better` is what was hoped for."""


@dataclass(frozen=True)
class Finding:
    """A claim and what came out here."""

    claim: Claim
    ours: Interval
    """In [0, 1]."""

    @property
    def verdict(self) -> Verdict:
        """Whether the sign is as claimed, by the 95 % interval of the difference."""
        expected = -1 if self.claim.paper is not None and self.claim.paper < 0 else 1
        if expected * self.ours.low > 0 and expected * self.ours.high > 0:
            return "holds"
        return "opposite" if self.ours.low > 0 or self.ours.high < 0 else "not decided"

    def as_json(self) -> dict[str, Any]:
        """What is kept of it."""
        return asdict(self.claim) | {"ours": asdict(self.ours), "verdict": self.verdict}


def of_methods() -> Iterator[Claim]:
    """Tables 1 and 2."""
    for dataset in SETS:
        for name, four in paper.METHODS.items():
            yield Claim("2", key(name, PUBLISHED_RECIPE), key(name, "words"), dataset, paper.gain_of_tokens(four, dataset))
        for asked in BOTH:
            for better, worse in (("ovam", "daam"), ("ovam", "attn2mask"), ("attn2mask", "daam")):
                yield from _compared("1 and 2", paper.METHODS, better, worse, dataset, asked)


def of_post_processing() -> Iterator[Claim]:
    """Table 4."""
    pairs = [(name, "daam") for name in ("self-attention", "dCRF", "ovam")]
    pairs += [("ovam", name) for name in ("self-attention", "dCRF")]
    for dataset in SETS:
        for asked in BOTH:
            for better, worse in pairs:
                yield from _compared("4", paper.POST_PROCESSING, better, worse, dataset, asked)


def of_blocks(resolutions: Sequence[int]) -> Iterator[Claim]:
    """Table 5: every combination against all blocks, and the lowest resolution against the others."""
    fours = paper.blocks(resolutions)
    if not fours:
        return
    combinations = [named_blocks(grids) for grids in grids_of(resolutions)]
    pairs = [("ovam", name) for name in combinations] + [(combinations[2], name) for name in combinations[:2]]
    for dataset in SETS:
        for asked in BOTH:
            for better, worse in pairs:
                yield from _compared("5", fours, better, worse, dataset, asked)


def of_evaluations() -> Iterator[Claim]:
    """Fig. 6: all evaluations against every single one."""
    for dataset in SETS:
        for asked in BOTH:
            for point in POINTS["single"]:
                yield Claim("Fig. 6", key("daam", asked), key(f"single {point}", asked), dataset)


def beyond() -> Iterator[Claim]:
    """What the paper leaves open."""
    plain = key("min-max", PUBLISHED_RECIPE)
    pairs = [
        *((question.better, question.worse) for question in QUESTIONS),
        *((key("min-max", asked), key("daam", asked)) for asked in BOTH),
        *((key("affinity 1 + dCRF", asked), key("ovam", asked)) for asked in BOTH),
        *((key("self-attention", asked), key("self-attention, other sign", asked)) for asked in BOTH),
        *((key("min-max", "words"), key("min-max", other)) for other in ("synonym", "unseen sentence", "unseen word")),
        (key("min-max", VOCABULARY), key("min-max", "words")),
        (key("min-max", "own prompt"), key("min-max", "words")),
        (key("min-max", ONE_IMAGE), plain),
        *((key("min-max", COUNTS[count]), key("min-max", ONE_IMAGE)) for count in COUNTS if count > 1),
        (key("min-max", "tokens of a scene"), key("min-max", ONE_IMAGE)),
        (key("min-max", "joint tokens"), key("min-max", ONE_IMAGE)),
        (key("min-max", "joint tokens of scenes"), key("min-max", "joint tokens")),
        (key("min-max", "joint tokens of 2 scenes"), key("min-max", "joint tokens of scenes")),
    ]
    for better, worse in pairs:
        for dataset in SETS:
            yield Claim("beyond", better, worse, dataset, said=False)


def _compared(table: str, rows: Mapping[str, paper.Four], better: str, worse: str, dataset: str, asked: str) -> Iterator[Claim]:
    """A claim of two rows of a table, unless the paper has them equal."""
    points = paper.difference(rows[better], rows[worse], dataset, asked)
    if points:
        yield Claim(table, key(better, asked), key(worse, asked), dataset, points)


def findings(
    claims: Iterator[Claim], counts: Mapping[str, Mapping[str, Counts]], kinds: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """What came out of the claims whose settings were measured; counts and what was looked for by set."""
    found = []
    for claim in claims:
        of_set = counts.get(claim.dataset, {})
        if claim.better in of_set and claim.worse in of_set:
            found.append(Finding(claim, gain(of_set[claim.better], of_set[claim.worse], kinds[claim.dataset])))
    return found
