"""What the gateway knows of a model and of a learned token. Workers publish the cards; the gateway loads no model."""

from datetime import datetime

from pydantic import Field

from contracts.jobs import Frozen
from contracts.requests import Normalize


class Cut(Frozen):
    """Where a mask is cut from a heatmap when a request does not say (Eq. 9)."""

    tau: float = Field(gt=0, le=1)
    normalize: Normalize = "max"


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
    word_cut: Cut = Field(Cut(tau=0.4), description="of masks of words; the paper's 0.4 unless the model has its own")
    token_cut: Cut = Field(Cut(tau=0.8), description="of masks of learned tokens; the paper's 0.8 unless the model has its own")
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
