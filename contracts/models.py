"""What the gateway knows of a model and of a learned token. Workers publish the cards; the gateway loads no model."""

from datetime import datetime

from pydantic import Field

from contracts.jobs import Frozen


class ModelCard(Frozen):
    """A model that workers serve, with what is needed to check a request for it."""

    name: str
    source: str = Field(description="hub id or path")
    family: str = Field(description="e.g. sd1")
    text_width: int = Field(description="width of a token's embedding")
    max_tokens: int = Field(description="tokens of a prompt, start and end marks included")
    default_height: int
    default_width: int
    size_multiple: int = Field(description="height and width are multiples of it")
    default_guidance_scale: float
    default: bool = False


class TokenExample(Frozen):
    """Where a token was learned."""

    job_id: str
    image: int


class TokenCard(Frozen):
    """A learned token: a class row with its own background row, valid together only."""

    name: str
    model: str
    width: int
    classes: list[str]
    examples: list[TokenExample]
    optimizer: str
    learning_rate: float
    loss: str
    epochs: int
    best_epoch: int
    best_loss: float
    example_iou: float = Field(description="mean IoU of the token's masks on its own examples")
    job_id: str
    created_at: datetime
