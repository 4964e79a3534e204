"""An image while it is drawn: what it looks like so far, where targets are in it, and whether it goes on."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from contracts.schema.fields import Label, Schema

MAX_LIVE_TARGETS = 8
PREVIEW_SIDE = 128  # pixels of a thumbnail's longer side, at most
PREVIEW_BYTES = 2**16  # of an event with a preview, at most
MAX_TRIES = 16  # seeds of an image

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Gate(Schema):
    """How much of an image a target must cover. An image in which it does not is given up while it is drawn."""

    target: Label
    """The label of one of the targets; a word's is the word, unless it has another."""
    min_area: Share = 0.0
    """Share of the image's pixels, at least."""
    max_area: Share = 1.0
    """Share of the image's pixels, at most."""
    at: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.5
    """When it is decided: after this share of the evaluations, or as soon afterwards as the target's settings select one."""
    on_fail: Literal["stop", "next-seed"] = "next-seed"
    """Leave the image out, or draw it again with another seed."""
    seeds: int = Field(4, ge=1, le=MAX_TRIES)
    """How many seeds are tried for an image, the first among them, with `next-seed`. Image k of n tries seed + k, then
    seed + k + n, ..."""

    @model_validator(mode="after")
    def allows_something(self) -> Self:
        """Some areas pass, and some do not."""
        if self.min_area > self.max_area:
            raise ValueError(f"`min_area` is {self.min_area}, above `max_area`, {self.max_area}")
        if self.min_area == 0 and self.max_area == 1:
            raise ValueError("`min_area` is 0 and `max_area` is 1, which every image passes; change one of them")
        return self


class Rejected(Schema):
    """A seed whose image did not pass the gate."""

    image: int
    """Which of the images that were asked for it was to be."""
    seed: int
    evaluation: int
    """How many evaluations it had when that was decided."""
    area: float
    """The share of the image that the target covered then."""
    reason: Literal["too-small", "too-large"]


class PreviewMask(Schema):
    """Where a target is so far."""

    label: str
    area: float
    """Share of the image's pixels."""
    mask: str | None
    """White inside: PNG as a `data:` URL, of one bit a pixel, the picture's size. Null while its settings select no evaluation
    that has been made."""


class Preview(Schema):
    """An image so far."""

    image: int
    """Which of the images that were asked for."""
    seed: int
    evaluation: int
    """Evaluations that have been made."""
    evaluations: int
    """Of so many in all."""
    picture: str | None
    """The image as it would become by what the UNet predicts: JPEG as a `data:` URL, at most 128 pixels high and wide. Null for a
    scheduler without a noise level for each timestep."""
    masks: list[PreviewMask]
    """One of each target, by the request's settings applied to the evaluations that have been made, before a dense CRF. The
    last preview has the masks of the result."""
