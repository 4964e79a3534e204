"""What the paper finds better than what, and what is worth comparing beyond it: each is a difference on the same images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from experiments.evaluation import paper
from experiments.evaluation.choices import QUESTIONS
from experiments.evaluation.comparing import Sets, gains
from experiments.evaluation.recipes import COUNTS, JOINT, JOINT_OF_SCENES, ONE_IMAGE, ONE_SCENE, PUBLISHED_RECIPE
from experiments.evaluation.scores import Interval
from experiments.evaluation.settings import POINTS, key, named_blocks
from experiments.evaluation.targets import AGAINST_ALL, AGAINST_SCENE, OWN_PROMPT, SYNONYM, WORDS

Verdict = Literal["holds", "opposite", "not decided"]
SETS = ("voc-sim", "coco-cap")
BOTH = (WORDS, PUBLISHED_RECIPE)


@dataclass(frozen=True)
class Claim:
    """That one setting is better than another on a set, by so many points in the paper."""

    table: str
    better: str
    """The key of a setting."""
    worse: str
    dataset: str
    paper: float | None = None
    """Points of mIoU; none where the paper says so in words, or does not compare them."""


@dataclass(frozen=True)
class Finding:
    """A claim and its result here."""

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
        for target in BOTH:
            for better, worse in (("ovam", "daam"), ("ovam", "attn2mask"), ("attn2mask", "daam")):
                yield from _compared("1 and 2", paper.METHODS, better, worse, dataset, target)
        yield from of_trained_methods(dataset)


def of_trained_methods(dataset: str) -> Iterator[Claim]:
    """Tables 1 and 2: what tokens do for the methods with networks, and Grounded Diffusion with tokens against all others."""
    for name, four in paper.TRAINED.items():
        yield Claim("2", key(name, PUBLISHED_RECIPE), key(name, "words"), dataset, paper.gain_of_tokens(four, dataset))
    rows, best = paper.METHODS | paper.TRAINED, "grounded-diffusion"
    for name in rows:
        if name != best:
            yield from _compared("1 and 2", rows, best, name, dataset, PUBLISHED_RECIPE)


def of_post_processing() -> Iterator[Claim]:
    """Table 4."""
    pairs = [(name, "daam") for name in ("self-attention", "dCRF", "ovam")]
    pairs += [("ovam", name) for name in ("self-attention", "dCRF")]
    for dataset in SETS:
        for target in BOTH:
            for better, worse in pairs:
                yield from _compared("4", paper.POST_PROCESSING, better, worse, dataset, target)


def of_blocks(resolutions: Sequence[int]) -> Iterator[Claim]:
    """Table 5: every combination against all blocks, and the lowest resolution against the others."""
    fours = paper.blocks(resolutions)
    if not fours:
        return
    *higher, lowest = map(named_blocks, ((resolution,) for resolution in resolutions))
    pairs = [*(("ovam", name) for name in fours if name != "ovam"), *((lowest, name) for name in higher)]
    for dataset in SETS:
        for target in BOTH:
            for better, worse in pairs:
                yield from _compared("5", fours, better, worse, dataset, target)


def of_evaluations() -> Iterator[Claim]:
    """Fig. 6: all evaluations against every single one."""
    for dataset in SETS:
        for target in BOTH:
            for point in POINTS["single"]:
                yield Claim("Fig. 6", key("daam", target), key(f"single {point}", target), dataset)


def beyond() -> Iterator[Claim]:
    """What the paper leaves open; `better` is what was hoped for."""
    pairs = [
        *((question.better, question.worse) for question in QUESTIONS),
        *((key("min-max", target), key("daam", target)) for target in BOTH),
        *((key("affinity 1 + dCRF", target), key("ovam", target)) for target in BOTH),
        *((key("self-attention", target), key("self-attention, other sign", target)) for target in BOTH),
        *((key("min-max", WORDS), key("min-max", other)) for other in (SYNONYM, "unseen sentence")),
        *((key("min-max", other), key("min-max", WORDS)) for other in (AGAINST_ALL, AGAINST_SCENE, OWN_PROMPT)),
        (key("min-max", ONE_IMAGE), key("min-max", PUBLISHED_RECIPE)),
        *((key("min-max", COUNTS[count]), key("min-max", ONE_IMAGE)) for count in COUNTS if count > 1),
        (key("min-max", ONE_SCENE), key("min-max", ONE_IMAGE)),
        (key("min-max", JOINT), key("min-max", ONE_IMAGE)),
        (key("min-max", JOINT_OF_SCENES), key("min-max", JOINT)),
    ]
    for better, worse in dict.fromkeys(pairs):
        for dataset in SETS:
            yield Claim("beyond", better, worse, dataset)


def _compared(table: str, rows: Mapping[str, paper.Four], better: str, worse: str, dataset: str, target: str) -> Iterator[Claim]:
    """A claim of two rows of a table, unless the paper has them equal."""
    points = paper.difference(rows[better], rows[worse], dataset, target)
    if points:
        yield Claim(table, key(better, target), key(worse, target), dataset, points)


def findings(claims: Iterable[Claim], sets: Sets) -> list[Finding]:
    """The results of the claims whose settings were measured."""
    found = []
    for claim in claims:
        ours = gains({claim.dataset: sets.get(claim.dataset, [])}, claim.better, claim.worse)
        found += [Finding(claim, each) for each in ours.values()]
    return found
