"""What X-AnyLabeling and X-AnyLabeling-Server say to each other."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.schema.fields import Name, Schema

Corner = tuple[float, float]


class Mark(Schema):
    """A point or a box that a person drew, in pixels."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["point", "rectangle"]
    data: Annotated[list[Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]], Field(min_length=2, max_length=4)]
    """x, y of a point; of a box, two corners."""
    label: int = 1
    """1: the object is there; 0: it is not."""


class Params(Schema):
    """How to look."""

    model_config = ConfigDict(extra="ignore")

    text_prompt: Annotated[str, Field(max_length=2000)] = ""
    """Words and learned tokens, separated by commas or full stops."""
    marks: list[Mark] = Field([], max_length=100)
    conf_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The least score of what is answered."""
    epsilon_factor: Annotated[float, Field(ge=0, le=1)] = 0.001
    """How far an outline may be from the mask's, as a part of its length."""


class PredictRequest(Schema):
    """An image, and what to look for."""

    model_config = ConfigDict(extra="ignore")

    model: Name
    image: Annotated[str, Field(min_length=1)]
    """Base64, with or without `data:image/png;base64,` before it."""
    params: Params = Params()


class Shape(BaseModel, frozen=True):
    """An outline."""

    label: str
    shape_type: Literal["polygon"] = "polygon"
    points: list[Corner]
    """The first corner is repeated at the end."""
    score: float
    attributes: dict[str, Any] = {}
    description: str | None = None
    difficult: bool = False
    direction: float = 0.0
    flags: dict[str, Any] | None = None
    group_id: int | None = None
    kie_linking: list[Any] = []
