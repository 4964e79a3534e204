"""Learning tokens from annotated images (section 3.3), and what comes of it."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from contracts.fields import (
    Artifact,
    Base64,
    Blocks,
    Evaluations,
    Frozen,
    JobId,
    Label,
    Name,
    Number,
    Request,
    Rle,
    Text,
    TokenRef,
)
from contracts.tokens import MAX_CLASSES

MAX_EXAMPLES = 64
OTHER_MASK = "a mask is a PNG in base64, run lengths `{size, counts}`, or polygons `[[x0, y0, x1, y1, ...]]`"
Polygons = Annotated[list[Annotated[list[Number], Field(min_length=6, max_length=20_000)]], Field(min_length=1, max_length=1000)]
MASK_FORMS = {str: "png", dict: "rle", Rle: "rle", list: "polygons"}
Mask = Annotated[
    Annotated[Base64, Tag("png")] | Annotated[Rle, Tag("rle")] | Annotated[Polygons, Tag("polygons")],
    Discriminator(lambda mask: MASK_FORMS.get(type(mask)), custom_error_type="mask", custom_error_message=OTHER_MASK),
    Field(
        description="a PNG in base64 (pixels above 127 of its grey form belong to the class) or COCO's compressed run lengths, "
        "of the image's size or resized to it by the nearest pixel; or COCO polygons in the image's pixels"
    ),
]


class Example(Request):
    """One annotated image: a `mask` for a token of one class, `masks` by the names of their classes, or a map of `labels`."""

    job_id: JobId = Field(description="a job that made or took images, and succeeded")
    image: int = Field(0, ge=0)
    mask: Mask | None = None
    masks: dict[Label, Mask] | None = Field(
        None, min_length=1, max_length=MAX_CLASSES, description="by class; pixels that two of them claim do not count"
    )
    labels: Base64 | None = Field(
        None,
        description="an indexed or 8-bit grey PNG, base64: 0 is the background, k the k-th class, 255 does not count; "
        "one of another size than the image is resized by the nearest pixel",
    )

    @model_validator(mode="after")
    def one_annotation(self) -> Self:
        """An image is annotated in one way."""
        if sum(each is not None for each in (self.mask, self.masks, self.labels)) != 1:
            raise ValueError("an example takes one of `mask`, `masks` or `labels`")
        return self


class Start(Request):
    """What a class starts from: a word, a row, or a class of a token."""

    word: Text | None = Field(None, description='its last sub-token in "A photograph of a <word>"')
    embedding: list[Number] | None = Field(None, min_length=1, max_length=8192)
    token: TokenRef | None = Field(
        None,
        description="a learned token: `cat@2`, or `cat` for its newest version; "
        "the first one's background is what the background starts from",
    )
    class_name: Text | None = Field(None, description="which class of a token that knows several; needed for those")

    @model_validator(mode="after")
    def one_start(self) -> Self:
        """A class starts from one thing."""
        if sum(each is not None for each in (self.word, self.embedding, self.token)) != 1:
            raise ValueError("a start takes one of `word`, `embedding` or `token`")
        if self.class_name is not None and self.token is None:
            raise ValueError("`class_name` belongs to a `token`")
        return self


class ConstantRate(Request):
    """The rate stays."""

    kind: Literal["constant"] = "constant"


class StepRate(Request):
    """The rate is multiplied by `factor` after every `every` epochs."""

    kind: Literal["step"] = "step"
    every: int = Field(120, ge=1, le=100_000)
    factor: float = Field(0.7, gt=0, le=1)


class CosineRate(Request):
    """The rate falls along half a cosine to the share `floor` of itself."""

    kind: Literal["cosine"] = "cosine"
    floor: float = Field(0.0, ge=0, le=1)


Rate = Annotated[ConstantRate | StepRate | CosineRate, Field(discriminator="kind")]


class OptimizeRequest(Request):
    """Learn a token of one or several classes from annotated images (OVAM, section 3.3)."""

    name: Name = Field(description="the token is asked for by this name later; a name in use gets a new version")
    classes: list[Label] = Field(
        min_length=1, max_length=MAX_CLASSES, description="their names; by default also the words they start from"
    )
    examples: list[Example] = Field(min_length=1, max_length=MAX_EXAMPLES)
    start: list[Start | None] | None = Field(
        None, max_length=MAX_CLASSES, description="what each class starts from, in their order; null: its name as a word"
    )
    noise: float = Field(0.0, ge=0, le=100, allow_inf_nan=False, description="standard deviation of noise on the start")
    seed: int = Field(0, ge=0, lt=2**63, description="of that noise; all else is deterministic")
    epochs: int = Field(300, ge=1, le=5000)
    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: float | None = Field(
        None, gt=0, le=1e4, allow_inf_nan=False, description="the optimiser's own default without it"
    )
    schedule: Rate = StepRate()
    loss: Literal["bce", "cross_entropy_minmax"] = "bce"
    patience: int | None = Field(60, ge=1, le=5000, description="epochs without gain after which it ends; null: none")
    blocks: Blocks | None = Field(None, description="blocks of the traces; all without it")
    evaluations: Evaluations | None = Field(None, description="evaluations of the traces; all without it")

    @model_validator(mode="after")
    def classes_agree(self) -> Self:
        """Classes differ, have a start each if any, and their masks are told apart."""
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("every class needs a name of its own in `classes`")
        if self.start is not None and len(self.start) != len(self.classes):
            raise ValueError(f"`start` has {len(self.start)} entries for {len(self.classes)} classes")
        for place, example in enumerate(self.examples):
            if example.mask is not None and len(self.classes) > 1:
                raise ValueError(f"`examples.{place}.mask` is for one class; with several use `masks` or `labels`")
            unknown = sorted(set(example.masks or ()) - set(self.classes))
            if unknown:
                raise ValueError(f"`examples.{place}.masks` has {unknown}; allowed: {self.classes}")
        return self


class OptimizeResult(Frozen):
    """The token that was learned."""

    token: str = Field(description="name and version, as they were then")
    model: str
    width: int = Field(description="of the embedding")
    classes: list[str]
    epochs: int = Field(description="epochs run")
    best_epoch: int
    best_loss: float
    ended: Literal["epochs", "plateau", "canceled", "diverged"] = Field(description="why it ended")
    example_iou: float = Field(description="mean IoU of the token's masks on its own examples")
    losses: list[float]
    curve: Artifact = Field(description="the loss curve as PNG")
    curve_json: Artifact = Field(description="loss and learning rate of every epoch")
