"""A job as everybody sees it: its state, its progress, and its result or its failure."""

import logging
import secrets
import time
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from contracts.schema.attribute import AttributeJob, AttributeResult
from contracts.schema.conditions import Upload, pictures_in
from contracts.schema.errors import Failure
from contracts.schema.estimates import Estimate
from contracts.schema.fields import Schema
from contracts.schema.images import GenerateJob, ImageJob, ImagesResult
from contracts.schema.optimize import OptimizeJob, OptimizeResult
from contracts.schema.previews import Preview
from contracts.schema.probe import ProbeJob, ProbeResult
from contracts.schema.tokens import ImportJob, ImportResult
from contracts.schema.webhooks import Webhook

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32

log = logging.getLogger(__name__)


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


Priority = Literal["interactive", "normal", "bulk"]
"""Who goes first: what a person waits for; everything else; what waits until there is nothing else."""
SHORT_KINDS = ("attribute", "probe", "import")  # interactive, unless a request says otherwise
Kind = Literal["generate", "image", "attribute", "probe", "optimize", "import"]
AnyJob = Annotated[GenerateJob | ImageJob | AttributeJob | ProbeJob | OptimizeJob | ImportJob, Field(discriminator="kind")]
AnyResult = Annotated[ImagesResult | AttributeResult | ProbeResult | OptimizeResult | ImportResult, Field(discriminator="kind")]


class Progress(Schema):
    """How far a running job is: UNet steps or optimisation epochs."""

    done: int
    total: int
    unit: Literal["step", "evaluation", "epoch"]
    loss: float | None = None
    preview: Preview | None = None
    """An image so far, in events of a generate job with targets; records do not keep it."""


class StoredResult(Schema):
    """A result that is too large for a record."""

    size: int
    """Bytes of its JSON."""
    files: int
    """Bytes of the files that it names."""


class JobRecord(Schema):
    """A job. Once it is final there is an `error` or a `result`, never both; a canceled one has a result if it kept something.

    One that was canceled by its deadline, and kept nothing, has the error `deadline-passed`.
    """

    id: str
    tenant: str = ""
    """Whose it is; empty without API keys."""
    kind: Kind
    state: State
    priority: Priority = "normal"
    deadline: datetime | None = None
    """When it is canceled, if it has not ended by then; null: never."""
    webhook: Webhook | None = None
    """Whom to tell when it comes into a state."""
    request: AnyJob | None
    """What is done: the request with everything filled in that it left open. `null` when it is larger than 64 KiB, as with many
    masks or a token's file: it is then kept in the artifact store, for as long as the job's files."""
    estimate: Estimate | None = None
    """What it was expected to take; null when its model says too little of itself."""
    created_at: datetime
    estimated_start: datetime | None = None
    """When a worker takes it, by how many wait before it and how fast its lane moves; null if it does not wait, or nobody
    knows."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime
    attempt: int = 0
    """How many workers have taken it."""
    deaths: int = 0
    """How many of them died while it was on their device."""
    tries: int = 0
    """How often it was put back because its store failed."""
    retry_at: datetime | None = None
    """When it is tried again, after that; until then it waits."""
    attempts_before: int = 0
    """How many of its attempts do not count any more, since it was requeued after it had been given up."""
    claimed: bool = False
    """Whether a worker has taken it; a job that waits for its worker's device is still `queued`."""
    cancel_requested: bool = False
    request_id: str | None = None
    """The `X-Request-Id` of the request that filed it, which logs of gateway and worker name."""
    traceparent: str | None = None
    """The span that filed it (W3C Trace Context): the worker's spans are its children."""
    progress: Progress | None = None
    result: AnyResult | None = None
    stored_result: StoredResult | None = None
    """Of a result of more than 64 KiB, which is kept with the job's files and put into the record when it is read."""
    error: Failure | None = None

    @model_validator(mode="before")
    @classmethod
    def has_priority(cls, data: Any) -> Any:  # noqa: ANN401  # whatever is to be validated
        """Give a record without a priority that of its kind."""
        if isinstance(data, dict) and "priority" not in data and data.get("kind") in SHORT_KINDS:
            return {**data, "priority": "interactive"}
        return data

    @classmethod
    def filed(cls, job: AnyJob, life: timedelta, tenant: str = "") -> "JobRecord":
        """Return the record of a new job, which waits; `life` is how long it and its files are kept."""
        now = utc_now()
        return cls(
            id=new_job_id(), tenant=tenant, kind=job.kind, state=State.QUEUED, request=job, created_at=now, expires_at=now + life
        )

    @classmethod
    def stored(cls, data: bytes | str | None) -> "JobRecord | None":
        """The record that Redis holds; None if it holds none that can be read, so that one damaged record stops nobody."""
        try:
            return None if data is None else cls.model_validate_json(data)
        except ValidationError as error:
            log.warning("a record in Redis cannot be read, and its job is left alone: %s", error.errors(include_input=False)[:1])
            return None

    def changed(self, **fields: Any) -> "JobRecord":  # noqa: ANN401  # the fields' own types are checked by the model
        """The record with some fields replaced."""
        return JobRecord.model_validate({**dict(self), **fields})

    def seen_at(self, now: datetime) -> "JobRecord":
        """The record as a reader sees it: past its time to live it is expired and its result is gone."""
        if self.state.final and now >= self.expires_at:
            return self.changed(state=State.EXPIRED, result=None, stored_result=None, error=None)
        return self

    def is_late(self) -> bool:
        """Whether its deadline has passed."""
        return self.deadline is not None and utc_now() >= self.deadline


def uploads_of(job: AnyJob | None) -> dict[str, Upload]:
    """Return the files that came with a job's request, by their fields."""
    match job:
        case ImageJob():
            return {"image": job.upload}
        case GenerateJob():
            return {field: each for field, each in pictures_in(job).items() if isinstance(each, Upload)}
        case _:
            return {}


def uploaded(job: AnyJob | None) -> int:
    """Return how many bytes came as files with a job's request."""
    return sum(upload.size for upload in uploads_of(job).values())


def new_job_id() -> str:
    """A sortable id: 48 bits of milliseconds, 80 random bits, in base 32 (a ULID in lower case)."""
    number = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    return "".join(ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def seconds_of(job_id: str) -> float:
    """Return when a job was filed, in seconds; the first 48 bits of its id are milliseconds. Infinity for what is no id."""
    number = 0
    for letter in job_id:
        if letter not in ALPHABET:
            return float("inf")
        number = number << 5 | ALPHABET.index(letter)
    return (number >> 80) / 1000


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)
