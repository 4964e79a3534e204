"""Data sets of generated images with masks: requests, and records of how far they are."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from contracts.schema.adapters import Adapters, ClipSkip
from contracts.schema.attribute import MAX_DISTRACTORS, MAX_TARGETS
from contracts.schema.errors import Failure
from contracts.schema.fields import Label, Name, Rle, Schema, Text
from contracts.schema.filters import FilledFilters, Filters, WithClass
from contracts.schema.images import MAX_SEED, TIMESTEPS, GenerateRequest
from contracts.schema.methods import KnownMethod, Settings
from contracts.schema.targets import TOKEN, WORDS, Target, TokenTarget, WordsTarget, tag_of
from ovam.core.confidence import Confidence
from ovam.core.methods import Method, Softmax
from ovam.core.words import alike

MAX_ENTRIES = 1_000_000
MAX_CLASSES = 254  # labels 1 to 254: 0 is the background, 255 is unsure
CustomId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""The caller's own name for a prompt, from which names of files are made."""
ClassName = Annotated[Label, StringConstraints(pattern=r"^[^\x00-\x1f\x7f\u2028\u2029:]+$")]
"""What every form of an export can hold."""
ClassTarget = Annotated[
    Annotated[TokenTarget, Tag(TOKEN)] | Annotated[WordsTarget, Tag(WORDS)],
    Discriminator(
        tag_of,
        custom_error_type="target",
        custom_error_message="a class's target takes one of `word` or `prompt` (or both), or `token`",
    ),
]


class DatasetState(StrEnum):
    """Where a data set stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self in (DatasetState.SUCCEEDED, DatasetState.FAILED, DatasetState.CANCELED)


class DatasetClass(Schema):
    """A class: what it is called, and what is looked for to find it."""

    name: ClassName
    """As prompts and exports name it."""
    target: ClassTarget | None = None
    """Words, or a learned token; the name as a word without it."""
    label: Annotated[int, Field(ge=1, le=MAX_CLASSES)] | None = None
    """Of its pixels, such as Pascal VOC's 7 for a car; its place among the classes, from 1, without it."""


class FilledClass(DatasetClass):
    """The same with nothing left open."""

    target: ClassTarget
    label: int


class Generation(Schema):
    """How the images are generated, as in a generate request."""

    model: Name | None = None
    """A name from GET /v1/models; the deployment's default without it."""
    negative_prompt: Annotated[str, StringConstraints(max_length=2000)] = ""
    num_inference_steps: int = Field(30, ge=1, le=TIMESTEPS)
    guidance_scale: Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)] | None = None
    height: Annotated[int, Field(ge=8)] | None = None
    width: Annotated[int, Field(ge=8)] | None = None
    scheduler: Annotated[str, StringConstraints(max_length=64)] | None = None
    adapters: Adapters = Field([])
    """LoRAs and textual inversions, by their names."""
    clip_skip: ClipSkip | None = None
    """Leave out that many of the text encoder's last layers."""

    def request(self, prompt: str, seed: int) -> GenerateRequest:
        """Return the request for one image."""
        return GenerateRequest.model_validate({**dict(self), "prompt": prompt, "seed": seed})


class Attribution(Schema):
    """How the classes are looked for, as in an attribute request."""

    method: KnownMethod | None = None
    """A published method, see GET /v1/methods; the model's own best settings without it."""
    settings: Settings | None = None  # type: ignore[valid-type]
    """Changes of the method's settings, for every class."""
    softmax: Softmax = "each"
    """Over each class's own prompt (`each`), or over all classes of the image and the distractors (`together`)."""
    distractors: list[Target] = Field([], max_length=MAX_DISTRACTORS)
    """Further targets that compete and get no mask, with `softmax` `together`."""


class DatasetOptions(Schema):
    """What a request and the job that it becomes share."""

    name: Label | None = None
    """What you call it."""
    images_per_prompt: int = Field(1, ge=1, le=MAX_ENTRIES)
    """Images of each prompt, with a seed each."""
    seed: int = Field(0, ge=0, le=MAX_SEED - MAX_ENTRIES)
    """Image n of the data set has seed + n; image k of a prompt with its own seed has that seed + k."""
    generation: Generation = Field(default_factory=Generation)
    attribution: Attribution = Field(default_factory=Attribution)
    concurrency: Annotated[int, Field(ge=1, le=256)] | None = None
    """Images that are worked on at a time; three for each worker that is there without it."""


class DatasetRequest(DatasetOptions):
    """Generate images, find the classes in them, and keep what passes the filters.

    Prompts come in one of three ways: `prompts`, `jsonl`, or `templates`.
    """

    classes: list[DatasetClass] = Field(min_length=1, max_length=MAX_CLASSES)
    """What is looked for. An image is searched for the classes of its prompt: those that its line names, else those whose name is
    in the prompt; if there is only one class, for that."""
    prompts: Annotated[list[Text], Field(min_length=1, max_length=MAX_ENTRIES, fail_fast=True)] | None = None
    """Prompts, in the order of the images."""
    jsonl: Annotated[str, StringConstraints(min_length=1)] | None = None
    """A JSON object in each line: `prompt`, and if you like `custom_id`, `classes` (a list of names) and `seed`."""
    templates: Annotated[list[WithClass], Field(min_length=1, max_length=1000, fail_fast=True)] | None = None
    """Prompts with `{class}` in them, each of which is filled in with each class."""
    filters: Filters = Field(default_factory=Filters)
    """Which images are rejected; none without it."""

    @model_validator(mode="after")
    def one_source(self) -> Self:
        """Prompts come in one way."""
        given = [name for name in ("prompts", "jsonl", "templates") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"there is {' and '.join(f'`{each}`' for each in given) or 'no prompt'}; allowed: one of `prompts`, "
                             "`jsonl` and `templates`")  # fmt: skip
        return self

    @model_validator(mode="after")
    def classes_differ(self) -> Self:
        """Each class has a name and a label of its own."""
        names = [alike(each.name) for each in self.classes]
        repeated = next((each for number, each in enumerate(names) if each in names[:number]), None)
        if repeated is not None:
            raise ValueError(f"`classes` has {repeated!r} twice")
        numbers = self.labels()
        if len(set(numbers)) < len(numbers):
            twice = next(each for each in numbers if numbers.count(each) > 1)
            raise ValueError(f"`classes` has two of label {twice} (a class without a label has its place, from 1)")
        return self

    def labels(self) -> Sequence[int]:
        """Return the label of each class."""
        return [each.label or number for number, each in enumerate(self.classes, 1)]


class PromptLine(Schema):
    """A line of `jsonl`."""

    prompt: Text
    custom_id: CustomId | None = None
    classes: Annotated[list[Label], Field(min_length=1, max_length=MAX_TARGETS)] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED - MAX_ENTRIES)] | None = None


class DatasetPrompt(PromptLine):
    """A prompt with nothing left open but its seed."""

    custom_id: CustomId
    classes: list[Label]


class DatasetJob(DatasetOptions):
    """The request filled in; its prompts are kept in the artifact store."""

    generation: Generation
    classes: list[FilledClass]
    filters: FilledFilters
    prompts: int
    """How many there are."""
    method: str
    """The published method whose settings were taken."""
    settings: Method
    """All settings with which the first class is looked for: others differ from it by their own, and by those for tokens."""

    @property
    def entries(self) -> int:
        """How many images are generated."""
        return self.prompts * self.images_per_prompt


class DatasetEstimate(Schema):
    """What a data set is expected to take."""

    seconds: float | None = None
    """Until it is done, by how long the jobs of an image took lately and how many workers there are, or by how fast it was so
    far; null while nobody knows."""
    kept_bytes: int | None = None
    """Size of its images and masks, if none were rejected."""


class Counts(Schema):
    """How far a data set is, in images. `accepted`, `failed` and those that were rejected add up to `done`.

    Images are rejected for what they compare to others (a share with the lowest scores, percentiles, duplicates) when all are
    done: until then they count as accepted.
    """

    entries: int
    done: int = 0
    accepted: int = 0
    failed: int = 0
    rejected: dict[str, int] = Field({})
    """By reason: `area`, `clip`, `confidence`, `single-colour`, `duplicate`."""


class DatasetSummary(Schema):
    """A data set without its request."""

    id: str
    tenant: str = ""
    name: str | None = None
    state: DatasetState
    counts: Counts
    estimate: DatasetEstimate | None = None
    kept_bytes: int = 0
    """Size of the images and masks that are kept."""
    waits: Failure | None = None
    """Why nothing is started at the moment, such as a limit that is reached; it goes on by itself."""
    error: Failure | None = None
    """Why it failed."""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None


class DatasetRecord(DatasetSummary):
    """A data set. It is kept until you delete it."""

    request: DatasetJob
    """What is done: the request with everything filled in that it left open."""


class Found(Schema):
    """What was found of a class in an image."""

    area: int
    """Pixels."""
    score: float
    """How sure the mask is by its heat, 0..1."""
    confidence: Confidence | None = None
    """How sure it is by how far halves of the attention agree with it."""
    clip: float | None = None
    """What CLIP says of the class in the image, by the filter's kind; null without that filter."""


class Entry(Schema):
    """What became of one image of a data set."""

    number: int
    """Its place in the data set, from 0."""
    custom_id: str
    """Its prompt's, with the number of the image where there are several."""
    prompt: str
    seed: int
    state: Literal["accepted", "rejected", "failed"]
    reason: str | None = None
    """Why it was rejected."""
    error: Failure | None = None
    height: int = 0
    width: int = 0
    found: dict[str, Found] = Field({})
    """By the name of the class."""
    sha256: str = ""
    """Of the image's file."""
    looks: str = ""
    """A hash of how the image looks: 64 bits in hexadecimal digits; empty unless duplicates are sought by it."""
    kept_bytes: int = 0
    weights: str = ""
    """Hash of the weights that drew it."""

    def rejected(self, reason: str) -> "Entry":
        """Return the entry, rejected for a reason."""
        return self.model_copy(update={"state": "rejected", "reason": reason})


class KeptMasks(Schema):
    """The masks of an image, as they are kept."""

    masks: dict[str, Rle]
    """By the name of the class."""
