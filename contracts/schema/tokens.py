"""Learned tokens as the registry keeps them, and files of tokens that come and go."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Base64, Label, Name, Result, Schema
from contracts.schema.models import ModelCard

MAX_CLASSES = 32
TokenFormat = Literal["safetensors", "textual-inversion", "npy"]


class TokenExample(Schema):
    """Where a token was learned."""

    job_id: str
    image: int


class TokenFacts(Schema):
    """What is known of a learned token, whatever it is called. It never changes."""

    id: str
    """The same for ever, whatever the token is called."""
    model: str
    width: int
    family: str | None = None
    """The family of models that it fits, by how their attention is read: `unet`, `sd3`, ...; null where that is not known."""
    classes: list[str]
    """What its rows stand for; a row of their own for the background comes before them."""
    origin: Literal["optimize", "import"]
    examples: list[TokenExample] = Field([])
    settings: dict[str, Any] = Field({})
    """How it was learned, as the request can say it again."""
    epochs: int | None = None
    best_epoch: int | None = None
    best_loss: float | None = None
    example_iou: float | None = None
    """Mean IoU of the token's masks on its own examples."""
    job_id: str
    created_at: datetime


class TokenCard(TokenFacts):
    """A version of a token: class rows with their own background row, valid together only."""

    name: str
    version: int

    @property
    def reference(self) -> str:
        """Name and version."""
        return f"{self.name}@{self.version}"

    def on(self, model: ModelCard, *, field: str) -> Self:
        """The token, if it was learned on a model, and on this build of it.

        ServiceError: token-of-other-model, token-of-other-family.
        """
        if self.family not in (None, model.attention_family):
            detail = (
                f"token {self.reference!r} was learned with a model of family {self.family!r}; "
                f"the image's model, {model.name!r}, is of {model.attention_family!r}"
            )
            raise ServiceError(Code.TOKEN_OF_OTHER_FAMILY, detail, field=field, value=self.reference)
        if (self.model, self.width) != (model.name, model.text_width):
            detail = (
                f"token {self.reference!r} belongs to model {self.model!r} and is {self.width} wide; "
                f"the image's model is {model.name!r}, which takes {model.text_width}"
            )
            raise ServiceError(Code.TOKEN_OF_OTHER_MODEL, detail, field=field, value=self.reference)
        return self

    def row(self, class_name: str | None, *, field: str) -> int:
        """The row of a class; without a name that of the only class. ServiceError: unknown-class."""
        if class_name is None and len(self.classes) == 1:
            return 1
        if class_name in self.classes:
            return 1 + self.classes.index(class_name)
        wrong = "has several classes; name one" if class_name is None else f"has no class {class_name!r}; it has"
        detail = f"token {self.reference!r} {wrong}: {', '.join(self.classes)}"
        raise ServiceError(Code.UNKNOWN_CLASS, detail, field=field, value=class_name)


class TokenListing(TokenCard):
    """The newest version of a name."""

    versions: int
    """How many versions the name has."""


class RenameRequest(Schema):
    """Give a token another name; its versions keep their numbers."""

    name: Name


class ImportRequest(Schema):
    """Import tokens from a file: one of ours, a textual inversion, a `.npy`, or a published dict of many."""

    file: Base64
    """The file's bytes, base64."""
    format: Literal["safetensors", "textual-inversion", "npy", "published"]
    name: Name | None = Field(
        None,
        description="the token's name, one in use gets a new version; "
        "of a published dict, a prefix of the names of its classes, joined by `-`",
    )
    model: Name | None = None
    """The model it was learned on; the deployment's default without it."""
    classes: list[Label] | None = Field(
        None, min_length=1, max_length=MAX_CLASSES, description="names of the rows of a `.npy`, the background's left out"
    )

    @model_validator(mode="after")
    def named(self) -> Self:
        """One token needs a name, and only files without names of classes take any."""
        if self.name is None and self.format != "published":
            raise ValueError(f"a file of format {self.format!r} holds one token, which needs a `name`")
        if self.classes is not None and self.format != "npy":
            raise ValueError(f"`classes` belong to format 'npy'; a file of format {self.format!r} names its own")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ValueError("`classes` names a class twice")
        return self


class ImportJob(ImportRequest):
    """The request filled in."""

    kind: Literal["import"] = "import"
    model: Name


class ImportResult(Result):
    """The tokens that were read from the file."""

    kind: Literal["import"] = "import"
    model: str
    width: int
    tokens: list[str]
    """Names with versions, as they were then."""

    def named(self, references: Sequence[str]) -> Self:
        """Return the result with the versions that its tokens got."""
        return self.model_copy(update={"tokens": [*references]}) if references else self
