"""Learning tokens from annotated images (section 3.3): requests, jobs and results."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from contracts.schema.fields import (
    MAX_WIDTH,
    Artifact,
    Base64,
    Blocks,
    JobId,
    Label,
    Name,
    Number,
    Positions,
    Result,
    Schema,
    Text,
    TokenRef,
    by_kind,
)
from contracts.schema.masks import Mask
from contracts.schema.tokens import MAX_CLASSES
from ovam.core.schedules import Constant, Cosine, Step

MAX_EXAMPLES = 64
OTHER_INITIAL = "an initial embedding takes one of `word`, `embedding` or `token`"
OTHER_EXAMPLE = "an example takes one of `mask`, `masks` or `labels`"
Schedule = Annotated[Constant | Step | Cosine, Field(discriminator="kind"), by_kind(Constant, Step, Cosine)]
Optimizer = Literal["sgd", "adam"]
LEARNING_RATES: dict[Optimizer, float] = {"sgd": 100.0, "adam": 0.1}
Loss = Literal["bce", "cross_entropy_minmax"]


class ExampleOptions(Schema):
    """Which image a training example is of."""

    job_id: JobId
    """A job that has images, and succeeded."""
    image: int = Field(0, ge=0)
    """Which of its images."""


class MaskExample(ExampleOptions):
    """An image and the mask of the only class."""

    mask: Mask


class MasksExample(ExampleOptions):
    """An image and a mask for each of its classes."""

    masks: dict[Label, Mask] = Field(min_length=1, max_length=MAX_CLASSES)
    """By class; pixels that two of them claim do not count."""


class LabelsExample(ExampleOptions):
    """An image and a map of labels."""

    labels: Base64
    """An indexed or 8-bit grey PNG, base64: 0 is the background, k the k-th class, 255 does not count. One of another size than
    the image is resized by the nearest pixel."""


def tag_among(*names: str) -> Any:  # noqa: ANN401 - a function for pydantic
    """Return a function that discriminates the members of a union by the one of these fields that each has."""

    def tag(value: object) -> str | None:
        if isinstance(value, Mapping):
            present = [name for name in names if value.get(name) is not None]
        else:
            present = [name for name in names if name in type(value).model_fields] if isinstance(value, Schema) else []
        return f"({present[0]})" if len(present) == 1 else None

    return tag


Example = Annotated[
    Annotated[MaskExample, Tag("(mask)")] | Annotated[MasksExample, Tag("(masks)")] | Annotated[LabelsExample, Tag("(labels)")],
    Discriminator(tag_among("mask", "masks", "labels"), custom_error_type="example", custom_error_message=OTHER_EXAMPLE),
]


class WordInitial(Schema):
    """A class starts from a word."""

    word: Text
    """Its last sub-token in "A photograph of a <word>"."""


class EmbeddingInitial(Schema):
    """A class starts from a row."""

    embedding: list[Number] = Field(min_length=1, max_length=MAX_WIDTH, fail_fast=True)


class TokenInitial(Schema):
    """A class starts from a learned token; the first such token's background is what the background starts from."""

    token: TokenRef
    """`cat@2`, or `cat` for its newest version."""
    class_name: Text | None = None
    """Which class of a token that knows several; needed for those."""


Initial = Annotated[
    Annotated[WordInitial, Tag("(word)")]
    | Annotated[EmbeddingInitial, Tag("(embedding)")]
    | Annotated[TokenInitial, Tag("(token)")],
    Discriminator(tag_among("word", "embedding", "token"), custom_error_type="initial", custom_error_message=OTHER_INITIAL),
]


class OptimizeRequest(Schema):
    """Learn a token of one or several classes from annotated images (OVAM, section 3.3)."""

    name: Name
    """The token's name; one in use gets a new version."""
    classes: list[Label] = Field(min_length=1, max_length=MAX_CLASSES)
    """Their names; by default also the words they start from."""
    examples: list[Example] = Field(min_length=1, max_length=MAX_EXAMPLES)
    """Annotated images, all of one model."""
    initial: Annotated[list[Initial | None], Field(max_length=MAX_CLASSES)] | None = None
    """What each class starts from, in their order; null: its name as a word."""
    noise: float = Field(0.0, ge=0, le=100, allow_inf_nan=False)
    """Standard deviation of noise on the initial embeddings."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Of that noise; all else is deterministic."""
    epochs: int = Field(300, ge=1, le=5000)
    """Most epochs."""
    optimizer: Optimizer = "adam"
    learning_rate: Annotated[float, Field(gt=0, le=1e4, allow_inf_nan=False)] | None = None
    """The optimiser's own default without it: 100 for `sgd`, 0.1 for `adam`."""
    schedule: Schedule = Field(default_factory=Step)
    """How the learning rate falls; without it, in steps."""
    loss: Loss = "bce"
    patience: Annotated[int, Field(ge=1, le=5000)] | None = 60
    """Epochs without gain after which it ends; null: never."""
    blocks: Blocks = "all"
    """Blocks of the traces."""
    evaluations: Positions = "all"
    """Evaluations of the traces."""

    @model_validator(mode="after")
    def classes_agree(self) -> Self:
        """Classes differ, have an initial embedding each if any, and each mask names its class where there are several."""
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("`classes` names a class twice")
        if self.initial is not None and len(self.initial) != len(self.classes):
            raise ValueError(f"`initial` has {len(self.initial)} entries for {len(self.classes)} classes")
        for place, example in enumerate(self.examples):
            if isinstance(example, MaskExample) and len(self.classes) > 1:
                raise ValueError(f"`examples.{place}.mask` is for one class; with several use `masks` or `labels`")
            if isinstance(example, MasksExample) and (unknown := sorted(set(example.masks) - set(self.classes))):
                raise ValueError(f"`examples.{place}.masks` has {unknown}; allowed: {self.classes}")
        return self


class OptimizeJob(OptimizeRequest):
    """The request filled in."""

    kind: Literal["optimize"] = "optimize"
    model: Name
    initial: list[Initial]  # type: ignore[bad-override]  # narrower: nothing is left open
    learning_rate: float


class OptimizeResult(Result):
    """The token that was learned."""

    kind: Literal["optimize"] = "optimize"
    token: str
    """Name and version, as they were then."""
    model: str
    width: int
    """Of the embedding."""
    classes: list[str]
    epochs: int
    """Epochs run."""
    best_epoch: int
    best_loss: float
    ended: Literal["epochs", "plateau", "canceled", "diverged"]
    """Why it ended."""
    example_iou: float
    """Mean IoU of the token's masks on its own examples."""
    losses: list[float]
    curve: Artifact
    """The loss curve as PNG."""
    curve_json: Artifact
    """Loss and learning rate of every epoch."""

    def named(self, references: Sequence[str]) -> Self:
        """Return the result with the version that its token got."""
        return self.model_copy(update={"token": references[0]}) if references else self
