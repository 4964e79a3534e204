"""What a generation starts from, and what steers it, beside its prompt."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from contracts.schema.adapters import MOST_ADAPTERS, AdapterUse, UsedAdapter
from contracts.schema.fields import Base64, JobId, Schema, one_of
from contracts.schema.masks import Mask

STRENGTH = 0.8  # of an image that is changed as a whole, unless a request says
STRENGTH_IN_MASK = 1.0  # of one that is painted anew inside a mask


class Upload(Schema):
    """A file that came with a request: it is stored, its record keeps what it was."""

    media_type: Literal["image/png", "image/jpeg", "image/webp"]
    size: int
    """Bytes."""
    sha256: str
    height: int
    """Pixels, upright."""
    width: int


class JobImage(Schema):
    """An image of a job that has images, and succeeded: a generated one, or a real one that was uploaded."""

    job_id: JobId
    image: int = Field(0, ge=0)
    """Which of its images."""


Picture = Annotated[
    Base64 | JobImage, one_of('a PNG, JPEG or WebP in base64, or an image of a job as {"job_id": "...", "image": 0}')
]
"""An image that a request brings, or names."""
Source = Upload | JobImage
"""The same in a job: where its worker finds it."""


class Conditions(Schema):
    """What a generation starts from, and what steers it."""

    image: Picture | None = None
    """Start from this image, resized, instead of from noise alone: a PNG, JPEG or WebP in base64, or an image of a job."""
    mask: Mask | None = None
    """Paint `image` anew here, and keep it elsewhere; as masks of an optimisation, in the image's pixels."""
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    """How much of `image` is replaced: its share of the steps is made. 0.8 without it, and 1 with a mask."""
    adapters: list[AdapterUse] = Field([], max_length=MOST_ADAPTERS)
    """LoRAs and textual inversions, by their names: several work together."""
    clip_skip: Annotated[int, Field(ge=0, lt=64)] | None = None
    """Leave out that many of the text encoder's last layers; questions about the image do, too."""

    @model_validator(mode="after")
    def agreeing(self) -> Self:
        """What is said of an image needs one, and no adapter is there twice."""
        alone = [name for name in ("mask", "strength") if getattr(self, name) is not None]
        if alone and self.image is None:
            raise ValueError(f"`{alone[0]}` has no effect without `image`")
        names = [adapter.name for adapter in self.adapters]
        if len({*names}) < len(names):
            raise ValueError(f"`adapters` names {next(name for name in names if names.count(name) > 1)!r} twice")
        return self


class FilledConditions(Conditions):
    """The same with images in the store, and nothing left open."""

    image: Source | None = None  # type: ignore[bad-override]  # where the image is, not itself
    """What it starts from."""
    adapters: list[UsedAdapter] = Field([])  # type: ignore[bad-override]  # narrower
    """LoRAs and textual inversions."""


def pictures_in(conditions: Conditions) -> dict[str, Picture | Source]:
    """Return the images of a request, or of a job, by their fields."""
    return {} if conditions.image is None else {"image": conditions.image}
