"""What is at this place? The words that a pixel or a box attends to, ranked."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from contracts.schema.fields import Blocks, JobId, Name, Positions, Result, Schema, Text
from ovam.core.methods import Padding

MAX_WORDS = 64
Coordinate = Annotated[int, Field(ge=0)]
Length = Annotated[int, Field(ge=1)]
Box = tuple[Coordinate, Coordinate, Length, Length]
"""x, y, width, height in pixels."""


class ProbeOptions(Schema):
    """What of a trace a probe looks at."""

    image: int = Field(0, ge=0)
    """Which image of the job."""
    padding: Padding = "none"
    """Softmax over the prompt's own tokens (`none`), or over the encoder's full length (`max_length`)."""
    blocks: Blocks = "all"
    """Blocks of the trace."""
    evaluations: Positions = "all"
    """Evaluations of the trace."""
    heads: Positions = "all"
    """Heads of every block."""


class ProbeRequest(ProbeOptions):
    """A place in an image and the words to choose among."""

    point: tuple[Coordinate, Coordinate] | None = None
    """x, y of a pixel."""
    box: Box | None = None
    """x, y, width, height in pixels."""
    words: Annotated[list[Text], Field(min_length=1, max_length=MAX_WORDS)] | None = None
    """Words or phrases; all words of the prompt without them."""
    prompt: Text | None = None
    """The attribution prompt; a sentence of the words without it."""

    @model_validator(mode="after")
    def a_place_and_words(self) -> Self:
        """A place is a point or a box, and there are words."""
        if (self.point is None) == (self.box is None):
            raise ValueError("a probe takes either `point` or `box`")
        if self.words is None and self.prompt is None:
            raise ValueError("a probe takes `words`, a `prompt`, or both")
        if self.words is not None and len({word.casefold() for word in self.words}) != len(self.words):
            raise ValueError("`words` names a word twice")
        return self


class ProbeJob(ProbeOptions):
    """The request filled in."""

    kind: Literal["probe"] = "probe"
    job_id: JobId
    model: Name
    box: Box
    words: list[str]
    prompt: str


class RankedWord(Schema):
    """How much a place attends to a word."""

    word: str
    attention: float
    """Mean attention of the place to the word, 0..1."""
    fraction: float
    """Of the attention that all the words get there."""
    gain: float
    """Its attention there less its attention in the whole image; the order is by it."""
    lift: float
    """Its attention there over its attention in the whole image."""


class ProbeResult(Result):
    """The words, the best first."""

    kind: Literal["probe"] = "probe"
    model: str
    prompt: str
    """The attribution prompt that was used."""
    words: list[RankedWord]
