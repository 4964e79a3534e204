"""What to look for in an image: words, a learned token, or rows of an embedding."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Discriminator, Field, Tag, model_validator

from contracts.schema.fields import MAX_WIDTH, Label, Schema, Text, TokenRef
from contracts.schema.methods import Settings
from ovam.core.methods import TargetKind

MAX_ROWS = 77
Row = Annotated[list[float], Field(max_length=MAX_WIDTH, fail_fast=True)]


class TargetOptions(Schema):
    """What every kind of target has."""

    settings: Settings | None = None  # type: ignore[valid-type]
    """For this target alone; they win over the request's."""


class WordsTarget(TargetOptions):
    """A word or phrase of an attribution prompt, which need not be the image's own."""

    label: Label | None = None
    """Its name in the answer; the word, or the prompt, without it."""
    prompt: Text | None = None
    """The attribution prompt; "a photograph of a <word>" without it."""
    word: Text | None = None
    """A word or phrase of the prompt; all words of the prompt without it."""
    occurrence: Annotated[int, Field(ge=0)] | None = None
    """The n-th occurrence of the word, from 0; all occurrences without it."""

    @property
    def kind(self) -> TargetKind:
        """Which of a method's settings it takes."""
        return "words"

    @model_validator(mode="after")
    def occurrence_of_a_word(self) -> Self:
        """An occurrence is one of a word."""
        if self.occurrence is not None and self.word is None:
            raise ValueError("`occurrence` needs a `word`")
        return self


class TokenTarget(TargetOptions):
    """A learned token."""

    label: Label | None = None
    """Its name in the answer; the token's class, or its name, without it."""
    token: TokenRef
    """`cat@2`, or `cat` for its newest version."""
    class_name: Text | None = None
    """Which class of a token that knows several; needed for those."""

    @property
    def kind(self) -> TargetKind:
        """Which of a method's settings it takes."""
        return "tokens"


class EmbeddingTarget(TargetOptions):
    """Rows of an embedding."""

    label: Label
    """Its name in the answer."""
    embedding: list[Row] = Field(min_length=1, max_length=MAX_ROWS, fail_fast=True)
    """Rows (tokens, text width) to take the softmax over."""
    rows: Annotated[list[int], Field(min_length=1, max_length=MAX_ROWS, fail_fast=True)] | None = None
    """Rows whose maps are averaged; all but the first without it."""

    @property
    def kind(self) -> TargetKind:
        """Which of a method's settings it takes: rows are looked for as learned tokens are."""
        return "tokens"

    @model_validator(mode="after")
    def rows_of_one_table(self) -> Self:
        """An embedding is a table, and the rows are in it."""
        widths, count = sorted({len(row) for row in self.embedding}), len(self.embedding)
        if len(widths) > 1:
            raise ValueError(f"the rows of `embedding` are {widths} long; allowed: one width")
        if self.rows is None and count == 1:
            raise ValueError("`embedding` has no row but the first; name it in `rows`")
        outside = [row for row in self.rows or () if not 0 <= row < count]
        if outside:
            raise ValueError(f"`rows` has {outside}; allowed: 0 to {count - 1}")
        return self


OTHER_TARGET = "a target takes one of `word` or `prompt` (or both), `token`, or `embedding`"


WORDS, TOKEN, EMBEDDING = "(words)", "(token)", "(embedding)"  # tags: not the names of fields, since they enter errors' paths


def tag_of(target: object) -> str | None:
    """Tell the kinds of targets apart by their fields."""
    if isinstance(target, Mapping):
        kinds = {WORDS: "prompt" in target or "word" in target, TOKEN: "token" in target, EMBEDDING: "embedding" in target}
        present = [kind for kind, given in kinds.items() if given]
        return present[0] if len(present) == 1 else None
    tags: dict[type, str] = {WordsTarget: WORDS, TokenTarget: TOKEN, EmbeddingTarget: EMBEDDING}
    return tags.get(type(target))


Target = Annotated[
    # words last: generated clients take the first kind whose required fields are there, and words have none
    Annotated[EmbeddingTarget, Tag(EMBEDDING)] | Annotated[TokenTarget, Tag(TOKEN)] | Annotated[WordsTarget, Tag(WORDS)],
    Discriminator(tag_of, custom_error_type="target", custom_error_message=OTHER_TARGET),
]
