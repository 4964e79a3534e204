"""Learned tokens as the registry keeps them, and files of tokens that come and go."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from contracts.errors import Code, ServiceError
from contracts.fields import Base64, Frozen, Label, Name, Request

TokenFormat = Literal["safetensors", "textual-inversion", "npy"]


class TokenExample(Frozen):
    """Where a token was learned."""

    job_id: str
    image: int


class TokenCard(Frozen):
    """A learned token: class rows with their own background row, valid together only. A version never changes."""

    id: str = Field(description="the same for ever, whatever the token is called")
    name: str
    version: int
    model: str
    width: int
    classes: list[str]
    origin: Literal["optimize", "import"]
    examples: list[TokenExample] = Field([])
    settings: dict[str, Any] = Field({}, description="how it was learned, as the request can say it again")
    epochs: int | None = None
    best_epoch: int | None = None
    best_loss: float | None = None
    example_iou: float | None = Field(None, description="mean IoU of the token's masks on its own examples")
    job_id: str
    created_at: datetime

    @property
    def reference(self) -> str:
        """Name and version."""
        return f"{self.name}@{self.version}"

    def row_of(self, class_name: str | None, *, field: str) -> int:
        """The row of a class, after the background's; unknown-class for another one, or none where there are several."""
        if class_name is None and len(self.classes) == 1:
            return 1
        if class_name not in self.classes:
            wrong = "needs a `class_name`" if class_name is None else f"has no class {class_name!r}"
            detail = f"token {self.reference!r} {wrong}; its classes: {', '.join(self.classes)}"
            raise ServiceError(Code.UNKNOWN_CLASS, detail, field=field, value=class_name)
        return 1 + self.classes.index(class_name)


class RenameRequest(Request):
    """Give a token another name; its versions keep their numbers."""

    name: Name


class ImportRequest(Request):
    """Take tokens from a file: one of ours, a textual inversion, a `.npy`, or a published dict of many."""

    file: Base64 = Field(description="the file's bytes, base64")
    format: Literal["safetensors", "textual-inversion", "npy", "published"]
    name: Name | None = Field(
        None, description="the token's name; of a published dict, what goes before the names of its classes, joined by `-`"
    )
    model: Name | None = Field(None, description="the model it was learned on; the deployment's default without it")
    classes: list[Label] | None = Field(None, min_length=1, max_length=32, description="names of the rows of a `.npy`")


class ImportResult(Frozen):
    """The tokens that were taken."""

    model: str
    width: int
    tokens: list[str] = Field(description="names with versions")
