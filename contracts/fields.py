"""The small pieces that requests, results and cards are made of."""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
Name = Annotated[str, StringConstraints(pattern=rf"^{NAME}$")]
TokenRef = Annotated[str, StringConstraints(pattern=rf"^{NAME}(@[1-9]\d{{0,8}})?$")]
"""A learned token: `cat@2` is its version 2, `cat` its newest."""
JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-z]{26}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Base64 = Annotated[str, StringConstraints(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]

Padding = Literal["none", "max_length"]
Normalize = Literal["max", "minmax"]
Half = Literal["conditional", "unconditional"]


class Request(BaseModel):
    """A frozen request without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Frozen(BaseModel):
    """A record that is replaced, never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Artifact(Frozen):
    """A file of a job, to be had at `url`."""

    name: str
    media_type: str
    size: int = Field(description="bytes")
    sha256: str
    url: str


class Rle(Frozen):
    """A mask in COCO's compressed run-length encoding."""

    size: tuple[int, int] = Field(description="(height, width)")
    counts: str


class Span(Request):
    """A range of indices as Python's slices count: `{"stop": 5}` are the first five, `{"start": -5}` the last."""

    start: int | None = None
    stop: int | None = None
    step: Annotated[int, Field(ge=1)] | None = None


def one_of(allowed: str) -> WrapValidator:
    """One error for a value that is of no kind of a union, instead of one for every kind."""

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            return validate(value)
        except ValidationError as error:
            raise ValueError(f"allowed: {allowed}") from error

    return WrapValidator(check)


Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Several = Annotated[list[int], Field(min_length=1, max_length=1000)]
Indices = Annotated[
    int | Several | Span,
    one_of('an index, a list of up to 1000, or a range as {"start": 0, "stop": 5, "step": 1}'),
    Field(description="one index, several, or a range; negative ones count from the end"),
]
Evaluations = Annotated[
    int | Share | Several | Span,
    one_of('an index, a list of up to 1000, a range as {"start": 0, "stop": 5, "step": 1}, or a share from 0 to below 1'),
    Field(
        description="UNet evaluations, from 0: one, several, a range, or the one at a share of the way (0.5: the middle); "
        "negative ones count from the end"
    ),
]
Block = Annotated[
    Annotated[int, Field(ge=1)] | Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,200}$")],
    one_of("a resolution, at least 1, or a part of a name: 1 to 200 of A-Z, a-z, 0-9, _ and ."),
]
Blocks = Annotated[
    list[Block],
    Field(min_length=1, max_length=200, description='by part of the name ("up", "down_blocks.1") or by resolution (16)'),
]
