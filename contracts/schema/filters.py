"""Filters of data sets: which images are rejected, and why."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from contracts.schema.fields import Schema, Text, by_kind

PLACEHOLDER = "{class}"
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Dropped = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


def with_class(text: str) -> str:
    """Refuse a text that would be the same for every class."""
    if PLACEHOLDER not in text:
        raise ValueError(f"Input should have `{PLACEHOLDER}` in the place of a class's name")
    return text


WithClass = Annotated[Text, AfterValidator(with_class), WithJsonSchema({"type": "string", "pattern": r"\{class\}"})]
"""A text with `{class}` in the place of a class's name."""


class Bounds(Schema):
    """What lies outside of two bounds is rejected."""

    least: Share
    most: Share

    @model_validator(mode="after")
    def bounds_rise(self) -> Self:
        """Something may pass."""
        if self.least > self.most:
            raise ValueError(f"`least` is {self.least}, above `most`, {self.most}, so that nothing passes")
        return self


class AreaShare(Bounds):
    """Masks that cover less or more of the image are rejected."""

    kind: Literal["share"] = "share"
    least: Share = 0.05
    most: Share = 0.95


class AreaPercentiles(Schema):
    """Of each class, the smallest and the largest masks are rejected."""

    kind: Literal["percentiles"] = "percentiles"
    least: Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)] = 5.0
    """Percentile below which a mask is too small."""
    most: Annotated[float, Field(ge=50, le=100, allow_inf_nan=False)] = 95.0
    """Percentile above which a mask is too large."""


class ClipCosine(Schema):
    """CLIP's cosine between the image and a text."""

    kind: Literal["cosine"] = "cosine"
    prompt: WithClass = "A photograph of a {class}"
    drop: Dropped = 0.30
    """Of each class, the share of images with the lowest scores that is rejected."""


class ClipContrast(Schema):
    """CLIP's probability of one text against another."""

    kind: Literal["contrast"] = "contrast"
    prompt: WithClass = "a {class}"
    against: WithClass = "not a {class}"
    drop: Dropped = 0.25
    """Of each class, the share of images with the lowest scores that is rejected."""


class ConfidenceRange(Bounds):
    """Images in which a mask is less sure, or more, are rejected: `confidence.value` of its segment."""

    least: Share = 0.0
    most: Share = 1.0


AreaFilter = Annotated[AreaShare | AreaPercentiles, Field(discriminator="kind"), by_kind(AreaShare, AreaPercentiles)]
ClipFilter = Annotated[ClipCosine | ClipContrast, Field(discriminator="kind"), by_kind(ClipCosine, ClipContrast)]


class FilledFilters(Schema):
    """Which images are rejected, with nothing left open. `null` or false: none for this reason."""

    area: AreaFilter | None = None
    clip: ClipFilter | None = None
    confidence: ConfidenceRange | None = None
    single_colour: bool = False
    """Images all of whose pixels have one colour."""
    duplicates: Literal["exact", "perceptual"] | None = None
    """Images that are, byte for byte or by a hash of how they look, the same as an earlier one."""


class Filters(FilledFilters):
    """Which images are rejected."""

    preset: Literal["paper", "published-code"] | None = None
    """The filters of the paper (CLIP's cosine, the lowest 30 % dropped; masks of 5 to 95 % of the image), or of its published
    code (CLIP's contrast, 25 %; percentiles 5 to 95; single-coloured images). Fields given beside it win."""

    def filled(self) -> FilledFilters:
        """Return the preset's filters with the fields that are given in their place."""
        given = {name: getattr(self, name) for name in FilledFilters.model_fields if name in self.model_fields_set}
        return FilledFilters.model_validate({**PRESETS.get(self.preset or "", {}), **given})


PRESETS: dict[str, dict[str, object]] = {
    "paper": {"area": AreaShare(), "clip": ClipCosine()},
    "published-code": {"area": AreaPercentiles(), "clip": ClipContrast(), "single_colour": True},
}
