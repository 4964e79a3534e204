"""What is at this place? The words that a pixel or a box attends to, ranked."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from contracts.fields import Blocks, Evaluations, Frozen, Indices, JobId, Padding, Request, Text

MAX_WORDS = 64


class ProbeOptions(Request):
    """A place in an image and the words to choose among."""

    image: int = Field(0, ge=0, description="which image of the job")
    point: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = Field(None, description="x, y of a pixel")
    box: (
        tuple[
            Annotated[int, Field(ge=0)],
            Annotated[int, Field(ge=0)],
            Annotated[int, Field(ge=1)],
            Annotated[int, Field(ge=1)],
        ]
        | None
    ) = Field(None, description="x, y, width, height in pixels")
    words: list[Text] | None = Field(None, min_length=1, max_length=MAX_WORDS, description="all words of the prompt without them")
    prompt: Text | None = Field(None, description="the attribution prompt; a sentence of the words without it")
    padding: Padding = "none"
    blocks: Blocks | None = None
    evaluations: Evaluations | None = None
    heads: Indices | None = None

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

    @property
    def attribution_prompt(self) -> str:
        """The prompt, or a sentence of the words, which names things better than the words in a row."""
        return self.prompt or f"a photograph of {', '.join(f'a {word}' for word in self.words or ())}"


class ProbeRequest(ProbeOptions):
    """The same, with the job that made the image."""

    job_id: JobId

    @property
    def region(self) -> tuple[int, int, int, int]:
        """The place as x, y, width, height."""
        x, y = self.point or (0, 0)
        return self.box or (x, y, 1, 1)


class RankedWord(Frozen):
    """How much a place attends to a word."""

    word: str
    attention: float = Field(description="mean attention of the place to the word, 0..1")
    share: float = Field(description="of the attention that all the words get there")
    gain: float = Field(description="its attention there less its attention in the whole image; the order is by it")
    lift: float = Field(description="its attention there over its attention in the whole image")


class ProbeResult(Frozen):
    """The words, the best first."""

    model: str
    prompt: str = Field(description="the attribution prompt that was used")
    words: list[RankedWord]
