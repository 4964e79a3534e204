"""A job as everybody sees it: its state, its progress, and its result or its failure."""

import secrets
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import Failure
from contracts.requests import AnyRequest, AttributeRequest, GenerateRequest, Normalize, OptimizeRequest, Padding, Target

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self not in (State.QUEUED, State.RUNNING)


Kind = Literal["generate", "attribute", "optimize"]


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


class Progress(Frozen):
    """How far a running job is: UNet steps or optimisation epochs."""

    done: int
    total: int
    unit: Literal["step", "epoch", "target"]
    loss: float | None = None


class GeneratedImage(Frozen):
    """One image of a generate job."""

    index: int
    seed: int
    image: Artifact
    trace_bytes: int = Field(description="size of the pixel queries kept for it")


class GenerateResult(Frozen):
    """Images, and the settings as they were used."""

    model: str
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float
    evaluations: int = Field(description="UNet evaluations whose queries are kept")
    images: list[GeneratedImage]


class Rle(Frozen):
    """A mask in COCO's compressed run-length encoding."""

    size: tuple[int, int] = Field(description="(height, width)")
    counts: str


class Segment(Frozen):
    """Where one target is."""

    target: Target
    tau: float
    normalize: Normalize
    score: float = Field(description="mean of the heatmap inside the mask over its maximum, 0..1")
    area: int = Field(description="pixels of the mask")
    bbox: tuple[int, int, int, int] = Field(description="x, y, width, height of the mask; zeros if it is empty")
    rle: Rle
    polygons: list[list[float]] = Field(description="outlines as x0, y0, x1, y1, ...")
    heatmap: Artifact
    heatmap_npy: Artifact
    mask: Artifact
    overlay: Artifact


class AttributeResult(Frozen):
    """A segment for every target, in the order asked for."""

    model: str
    height: int
    width: int
    padding: Padding
    dcrf: bool
    segments: list[Segment]


class OptimizeResult(Frozen):
    """The token that was learned."""

    token: str
    model: str
    width: int = Field(description="of the embedding")
    epochs: int = Field(description="epochs run")
    best_epoch: int
    best_loss: float
    losses: list[float]


class JobRecord(Frozen):
    """A job. `error` or `result` is there once it is final, never both."""

    id: str
    kind: Kind
    state: State
    request: AnyRequest
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime
    attempt: int = Field(0, description="how often a worker has begun it")
    cancel_requested: bool = False
    progress: Progress | None = None
    result: GenerateResult | AttributeResult | OptimizeResult | None = None
    error: Failure | None = None

    def changed(self, **fields: Any) -> "JobRecord":  # noqa: ANN401  # the fields' own types are checked by the model
        """The record with some fields replaced."""
        return JobRecord.model_validate({**dict(self), **fields})

    def seen_at(self, now: datetime) -> "JobRecord":
        """The record as a reader sees it: past its time to live it is expired and its result is gone."""
        if self.state.final and now >= self.expires_at:
            return self.changed(state=State.EXPIRED, result=None, error=None)
        return self


def kind_of(request: AnyRequest) -> Kind:
    """The kind of job a request makes."""
    match request:
        case GenerateRequest():
            return "generate"
        case AttributeRequest():
            return "attribute"
        case OptimizeRequest():
            return "optimize"


def new_job_id() -> str:
    """A sortable id: 48 bits of milliseconds, 80 random bits, in base 32 (a ULID in lower case)."""
    number = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    return "".join(ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)
