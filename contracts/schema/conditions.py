"""What a generation starts from, and what steers it, beside its prompt."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from contracts.schema.adapters import Adapters, ClipSkip, UsedAdapter
from contracts.schema.fields import Base64, JobId, Name, Schema, Text, one_of
from contracts.schema.masks import Mask

STRENGTH = 0.8  # of an image that is changed as a whole, unless a request says
MOST_STEERING = 2.0
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


class Control(Schema):
    """A ControlNet: an image of edges, depth or poses that the drawing follows."""

    name: Name
    """A ControlNet among the model's `adapters`."""
    image: Picture
    """What it follows, of the size of the image that is drawn: a PNG, JPEG or WebP in base64, or an image of a job."""
    scale: Annotated[float, Field(ge=0, le=MOST_STEERING)] = 1.0
    """How much it counts."""
    start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the steps after which it begins to count."""
    end: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of the steps after which it does no more."""

    @model_validator(mode="after")
    def counts(self) -> Self:
        """It begins before it ends."""
        if self.start >= self.end:
            raise ValueError(f"`start` is {self.start}; allowed: less than `end`, which is {self.end}")
        return self


class FilledControl(Control):
    """The same with the image in the store."""

    image: Source  # type: ignore[bad-override]  # where it is
    weights: str
    """Hash of the ControlNet's file."""


class ImagePrompt(Schema):
    """An image that says beside the prompt what to draw (IP-Adapter)."""

    name: Name
    """An IP-Adapter among the model's `adapters`."""
    image: Picture
    """A PNG, JPEG or WebP in base64, or an image of a job."""
    scale: Annotated[float, Field(ge=0, le=MOST_STEERING)] = 1.0
    """How much it counts."""


class FilledImagePrompt(ImagePrompt):
    """The same with the image in the store."""

    image: Source  # type: ignore[bad-override]  # where it is
    weights: str
    """Hash of the IP-Adapter's file."""


class Emphasis(Schema):
    """How much a word of the prompt counts."""

    word: Text
    """A word, or several, of the prompt."""
    weight: Annotated[float, Field(ge=0, le=MOST_STEERING)]
    """1 changes nothing; 0: as if nothing stood there."""
    occurrence: Annotated[int, Field(ge=0)] | None = None
    """Which occurrence of the word, from 0; all without it."""


class Conditions(Schema):
    """What a generation starts from, and what steers it."""

    image: Picture | None = None
    """Start from this image, resized, instead of from noise alone: a PNG, JPEG or WebP in base64, or an image of a job."""
    mask: Mask | None = None
    """Paint `image` anew here, and keep it elsewhere; as masks of an optimisation, in the image's pixels."""
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    """How much of `image` is replaced: its share of the steps is made. 0.8 without it, and 1 with a mask."""
    adapters: Adapters = Field([])
    """LoRAs and textual inversions, by their names: several work together."""
    control: Control | None = None
    """Follow an image's edges, depth or poses. What the UNet computed is then kept as queries."""
    image_prompt: ImagePrompt | None = None
    """Draw what an image shows, beside what the prompt says."""
    emphasis: list[Emphasis] = Field([], max_length=64)
    """Words of the prompt that count more, or less, than others."""
    clip_skip: ClipSkip | None = None
    """Leave out that many of the text encoder's last layers; questions about the image do, too."""

    @model_validator(mode="after")
    def agreeing(self) -> Self:
        """What is said of an image needs one."""
        alone = [name for name in ("mask", "strength") if getattr(self, name) is not None]
        if alone and self.image is None:
            raise ValueError(f"`{alone[0]}` has no effect without `image`")
        return self


class FilledConditions(Conditions):
    """The same with images in the store, and nothing left open."""

    image: Source | None = None  # type: ignore[bad-override]  # where the image is, not itself
    """What it starts from."""
    adapters: list[UsedAdapter] = Field([])  # type: ignore[bad-override]  # narrower
    """LoRAs and textual inversions."""
    control: FilledControl | None = None  # type: ignore[bad-override]  # narrower
    """What the drawing follows."""
    image_prompt: FilledImagePrompt | None = None  # type: ignore[bad-override]  # narrower
    """What image it draws beside the prompt."""


def pictures_in(conditions: Conditions) -> dict[str, Picture | Source]:
    """Return the images of a request, or of a job, by their fields."""
    control, prompt = conditions.control, conditions.image_prompt
    found = {
        "image": conditions.image,
        "control.image": None if control is None else control.image,
        "image_prompt.image": None if prompt is None else prompt.image,
    }
    return {field: each for field, each in found.items() if each is not None}


def sources_in(job: FilledConditions) -> dict[str, Source]:
    """Return where a job's images are, by their fields."""
    return {field: each for field, each in pictures_in(job).items() if not isinstance(each, str)}


def adapters_of(job: FilledConditions) -> list[UsedAdapter]:
    """Return every adapter that a job needs."""
    found = [*job.adapters]
    for kind, each in (("controlnet", job.control), ("ip-adapter", job.image_prompt)):
        if each is not None:
            found.append(UsedAdapter(name=each.name, scale=each.scale, kind=kind, weights=each.weights))
    return found
