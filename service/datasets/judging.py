"""What becomes of an image by itself: the filters that need to know nothing of the others."""

import math

from contracts.schema.attribute import Appraisal, AttributeResult
from contracts.schema.datasets import Entry, Found
from contracts.schema.filters import AreaShare, ClipContrast, FilledFilters

AREA, CLIP, CONFIDENCE, SINGLE_COLOUR, DUPLICATE = "area", "clip", "confidence", "single-colour", "duplicate"  # reasons


def found_in(result: AttributeResult, filters: FilledFilters) -> dict[str, Found]:
    """What was found of each class, by name, with what CLIP says of it."""
    scores = clip_scores(result.appraisal, filters) if filters.clip and result.appraisal else [None] * len(result.segments)
    return {
        segment.label: Found(area=segment.area, score=segment.score, confidence=segment.confidence, clip=score)
        for segment, score in zip(result.segments, scores, strict=True)
    }


def clip_scores(appraisal: Appraisal, filters: FilledFilters) -> list[float]:
    """A score for each class: the cosine of its text, or its probability against the other text (a softmax over the two)."""
    if not isinstance(filters.clip, ClipContrast):
        return appraisal.clip
    pairs = zip(appraisal.clip[::2], appraisal.clip[1::2], strict=True)
    return [probability((appraisal.clip_scale or 1) * (own - other)) for own, other in pairs]


def probability(logit: float) -> float:
    """The logistic function, which overflows nowhere."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def judged(entry: Entry, appraisal: Appraisal | None, filters: FilledFilters) -> Entry:
    """The entry, rejected if a filter says so of it alone: for its colour, else for a mask's area, else for how sure one is."""
    if filters.single_colour and appraisal and appraisal.single_colour:
        return entry.rejected(SINGLE_COLOUR)
    if isinstance(filters.area, AreaShare):
        least, most = (share * entry.height * entry.width for share in (filters.area.least, filters.area.most))
        if any(not least <= each.area <= most for each in entry.found.values()):
            return entry.rejected(AREA)
    if filters.confidence:
        sure = [each.confidence.value for each in entry.found.values() if each.confidence]
        if any(not filters.confidence.least <= value <= filters.confidence.most for value in sure):
            return entry.rejected(CONFIDENCE)
    return entry
