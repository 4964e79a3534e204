"""A job as everybody sees it: its state, its progress, and its result or its failure."""

import secrets
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from contracts.attribution import AttributeRequest, AttributeResult
from contracts.errors import Failure
from contracts.fields import Frozen
from contracts.generation import GenerateRequest, GenerateResult, ImageRequest
from contracts.optimization import OptimizeRequest, OptimizeResult
from contracts.probing import ProbeRequest, ProbeResult
from contracts.tokens import ImportRequest, ImportResult

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


Kind = Literal["generate", "image", "attribute", "probe", "optimize", "import"]
AnyRequest = GenerateRequest | ImageRequest | AttributeRequest | ProbeRequest | OptimizeRequest | ImportRequest
# No data fits two of them, so the first fit is the right one; to look for a better one takes ten times as long.
AnyResult = Annotated[
    AttributeResult | GenerateResult | ProbeResult | OptimizeResult | ImportResult, Field(union_mode="left_to_right")
]


class Progress(Frozen):
    """How far a running job is: UNet steps or optimisation epochs."""

    done: int
    total: int
    unit: Literal["step", "evaluation", "epoch"]
    loss: float | None = None


class JobRecord(Frozen):
    """A job. Once it is final there is an `error` or a `result`, never both; a canceled one has a result if it kept something."""

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
    result: AnyResult | None = None
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
        case ImageRequest():
            return "image"
        case AttributeRequest():
            return "attribute"
        case ProbeRequest():
            return "probe"
        case OptimizeRequest():
            return "optimize"
        case ImportRequest():
            return "import"


def new_job_id() -> str:
    """A sortable id: 48 bits of milliseconds, 80 random bits, in base 32 (a ULID in lower case)."""
    number = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    return "".join(ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)
