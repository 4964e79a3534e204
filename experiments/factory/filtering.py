"""Which images a preset of filters rejects, and why: by the rules of the service's data sets, their own code."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from contracts.schema.attribute import Appraisal
from contracts.schema.datasets import Entry, Found
from contracts.schema.filters import ClipCosine, FilledFilters, Filters
from experiments.factory.making import Line
from service.datasets.comparing import Cut, Limits, cuts_of, verdict
from service.datasets.judging import clip_scores, judged

PRESETS = ("paper", "published-code")


class NoClipError(Exception):
    """The images were made without a CLIP, and a filter asks for what it says."""


def filters_of(preset: str, *, clip: bool) -> FilledFilters:
    """A preset; without the filter by CLIP where there is none."""
    filled = Filters.model_validate({"preset": preset}).filled()
    return filled if clip else filled.model_copy(update={"clip": None})


def reasons(lines: Sequence[Line], filters: FilledFilters) -> list[str | None]:
    """Why each image is rejected, None for those that stay. NoClipError if CLIP was not asked."""
    entries = [judged(entry_of(line, number, filters), appraisal_of(line, filters), filters) for number, line in enumerate(lines)]
    cuts = cuts_of(filters)
    limits = limits_of(entries, cuts)
    nothing = bytearray(len(entries))  # no image is like an earlier one: every seed is its own
    return [verdict(entry, cuts, limits, nothing).reason for entry in entries]


def entry_of(line: Line, number: int, filters: FilledFilters) -> Entry:
    """An image as the service keeps it; its area is all that counts of its size."""
    appraisal = appraisal_of(line, filters)
    (score,) = clip_scores(appraisal, filters) if filters.clip else (None,)
    found = {line["class_name"]: Found(area=line["area"], score=1.0, clip=score)}
    return Entry(
        number=number, custom_id=line["name"], prompt=line["prompt"], seed=line["seed"], state="accepted",
        height=1, width=line["size"], found=found,
    )  # fmt: skip


def appraisal_of(line: Line, filters: FilledFilters) -> Appraisal:
    """What was seen of an image, with the cosines of the texts that the filters name."""
    single = {"single_colour": line["single_colour"], "looks": ""}
    if filters.clip is None:
        return Appraisal(**single)
    if "clip" not in line:
        raise NoClipError(f"{line['name']} was seen by no CLIP: name one (--clip), or do without its filter")
    paper, *against = line["clip"]
    cosines = [paper] if isinstance(filters.clip, ClipCosine) else against
    return Appraisal(**single, clip=cosines, clip_scale=line["clip_scale"])


def limits_of(entries: Sequence[Entry], cuts: Sequence[Cut]) -> Limits:
    """The last value that stays, of each cut and class, among the images that nothing else rejects."""
    values: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for entry in entries:
        if entry.state == "accepted":
            for name, found in entry.found.items():
                for number, cut in enumerate(cuts):
                    values[number, name].append(cut.value(found))
    return {key: sorted(several)[cuts[key[0]].rank(len(several))] for key, several in values.items()}


def rejections(lines: Sequence[Line], why: Sequence[str | None]) -> Mapping[str, Counter[str]]:
    """How many images of each class stay ("accepted") and are rejected for which reason."""
    found: dict[str, Counter[str]] = {}
    for line, reason in zip(lines, why, strict=True):
        found.setdefault(line["class_name"], Counter())[reason or "accepted"] += 1
    return found
