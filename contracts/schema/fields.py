"""Types that requests, results and cards share."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Literal, Self, get_args, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FieldSerializationInfo,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_serializer,
)

from ovam.core.selection import Span
from ovam.errors import shown

LONGEST_WORD = 64  # characters of a word that a known one is sought for: to compare takes the square of its length
NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
Name = Annotated[str, StringConstraints(pattern=rf"^{NAME}$")]
TokenRef = Annotated[str, StringConstraints(pattern=rf"^{NAME}(@[1-9][0-9]{{0,8}})?$")]
"""A learned token: `cat@2` is its version 2, `cat` its newest."""
JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-z]{26}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Base64 = Annotated[str, StringConstraints(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
MAX_WIDTH = 16384  # numbers in a row of an embedding; FLUX.2 has 15360
Split = Literal["block", "evaluation", "head"]
Branch = Literal["conditional", "unconditional"]
Keep = Literal["replay", "queries"]
"""What is kept of an image's attention: what the UNet was given, or what it computed from that."""
Precision = Literal["float16", "bfloat16", "int8"]


class Schema(BaseModel):
    """Base of everything here: never changed, only replaced, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Result(Schema):
    """Base of what jobs give."""

    def named(self, references: Sequence[str]) -> Self:
        """Return the result with the names and versions that its tokens got; most results have none."""
        del references
        return self


class Artifact(Schema):
    """A file of a job."""

    name: str
    media_type: str
    size: int
    """Bytes."""
    sha256: str
    url: str
    """Where to fetch it."""

    @field_serializer("url")
    def below_root(self, url: str, info: FieldSerializationInfo) -> str:
        """Write the address below the gateway's root path, which the gateway gives as context."""
        return f"{(info.context or {}).get('root', '')}{url}"


class Rle(Schema):
    """A mask in COCO's compressed run-length encoding."""

    size: tuple[int, int]
    """(height, width)."""
    counts: str


def by_kind(*members: type) -> WrapValidator:
    """Return a validator that gives one error in plain words for a union's tag `kind` that is missing or unknown."""
    kinds = [get_args(get_type_hints(member)["kind"])[0] for member in members]
    allowed = f"allowed: {', '.join(kinds)}"

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        if isinstance(value, members):
            return validate(value)
        if not isinstance(value, Mapping) or "kind" not in value:
            raise ValueError(f"`kind` is missing; {allowed}")
        if value["kind"] not in kinds:
            raise ValueError(f"`kind` is {shown(value['kind'])}; {allowed}{suggestion(value['kind'], kinds)}")
        return validate(value)

    return WrapValidator(check)


def suggestion(value: object, known: Sequence[str]) -> str:
    """Return the known word that is close to a wrong one, as the end of an error; nothing if none is."""
    word = value.lower() if isinstance(value, str) and len(value) <= LONGEST_WORD else ""
    close = get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def one_of(allowed: str) -> WrapValidator:
    """Return a validator that gives one error for a value that suits no member of a union, instead of one for each."""

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            return validate(value)
        except ValidationError as error:
            raise ValueError(f"allowed: {allowed}") from error

    return WrapValidator(check)


Positions = Annotated[
    Literal["all"]
    | int
    | Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
    | Annotated[list[int], Field(min_length=1, max_length=1000, fail_fast=True)]
    | Span,
    one_of(
        '"all", a position, a list of up to 1000, a range as {"start": 0, "stop": 5, "step": 1}, or a fraction from 0 to below 1'
    ),
]
"""Some of the evaluations or heads, see `ovam.core.selection`."""
Block = Annotated[
    Annotated[int, Field(ge=1)] | Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,200}$")],
    one_of("a resolution, at least 1, or a part of a name: 1 to 200 of A-Z, a-z, 0-9, _ and ."),
]
Blocks = Annotated[
    Literal["all"] | Annotated[list[Block], Field(min_length=1, max_length=200, fail_fast=True)],
    one_of('"all", or a list of up to 200 parts of names ("up", "down_blocks.1") and resolutions (16)'),
]
"""Some of the cross-attention blocks, see `ovam.core.selection`."""
