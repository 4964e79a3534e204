"""`/v1/jobs`: list, get, follow, download, cancel, delete."""
# ruff: noqa: FAST003  # the `job_id` of a path is read by `record_of`

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from contracts.rules.sources import check_alive
from contracts.schema.errors import Code, Failure, ServiceError
from contracts.schema.fields import JobId
from contracts.schema.jobs import JobRecord, Kind, Progress, State
from contracts.state import keys
from service import artifacts, examples
from service.bodies import BodyRoute
from service.events import START
from service.openapi import ANY_BODY, example, problems
from service.resources import With
from service.routes.submission import whole, written

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=BodyRoute)
BINARY = {"schema": {"type": "string", "format": "binary"}}
LOSSES = {
    "schema": {"type": "array", "items": {"type": "object"}},
    "example": [{"epoch": 0, "loss": 0.61, "learning_rate": 100.0}],
}
FILES = {"image/png": BINARY, "application/octet-stream": BINARY, "application/json": LOSSES}


class JobSummary(BaseModel, frozen=True):
    """A job without its request and its result."""

    id: str
    kind: Kind
    state: State
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime
    attempt: int
    progress: Progress | None = None
    error: Failure | None = None


class JobList(BaseModel, frozen=True):
    """A page of jobs, newest first. With `kind` or `state` it may have fewer than `limit` although there is a `next` one."""

    jobs: list[JobSummary]
    next: str | None = Field(description="`cursor` of the next page; null on the last")


async def record_of(job_id: Annotated[str, Path(examples=[examples.GENERATION])], resources: With) -> JobRecord:
    """The record of the job in the path."""
    return await resources.ledger.get(job_id, field="job_id")


async def live_record_of(record: Annotated[JobRecord, Depends(record_of)]) -> JobRecord:
    """The record of the job in the path, unless it has expired."""
    check_alive(record, field="job_id")
    return record


Record = Annotated[JobRecord, Depends(record_of)]
LiveRecord = Annotated[JobRecord, Depends(live_record_of)]


@router.get("", responses={200: example(examples.JOBS, "a page of jobs"), **problems()})
async def list_jobs(
    resources: With,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[JobId | None, Query(description="`next` of the page before")] = None,
    kind: Kind | None = None,
    state: State | None = None,
) -> JobList:
    """List jobs, newest first."""
    found, edge = await resources.ledger.newest(cursor, limit + 1, kind=kind, state=state)
    page = [JobSummary.model_validate(record, from_attributes=True) for record in found[:limit]]
    return JobList(jobs=page, next=page[-1].id if len(found) > limit else edge)


@router.get(
    "/{job_id}",
    response_model=JobRecord,
    responses={200: example(examples.SUCCEEDED, "the job"), **problems(Code.UNKNOWN_JOB)},
)
async def get_job(record: Record, http: Request, resources: With) -> Response:
    """Get a job. Once it has expired, its result is gone."""
    return written(http, await whole(record, resources))


@router.get(
    "/{job_id}/events",
    response_class=EventSourceResponse,
    responses={
        200: {"description": "events until the job is final", "content": {"text/event-stream": {"example": examples.EVENTS}}},
        **problems(Code.UNKNOWN_JOB, Code.JOB_EXPIRED),
    },
)
async def follow_job(
    record: LiveRecord,
    resources: With,
    last: Annotated[
        str, Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,15}-[0-9]{1,15}$", description="continue after this event")
    ] = START,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a job: `state` and `progress` events, from the first or from `Last-Event-ID` on, until it is final.

    A generate job with targets shows its images in `progress.preview`, at most 64 KiB an event; of each image the latest is kept.
    """
    async for event in resources.events.follow(record.id, last):
        yield ServerSentEvent(raw_data=event.data, event=event.name, id=event.id)


@router.get(
    "/{job_id}/artifacts/{name}",
    response_class=Response,
    responses={
        200: {"description": "the file", "content": FILES},
        206: {"description": "the range of `Range`", "content": FILES},
        304: {"description": "the client has it already"},
        **problems(
            Code.UNKNOWN_JOB,
            Code.JOB_EXPIRED,
            Code.JOB_NOT_FINISHED,
            Code.UNKNOWN_ARTIFACT,
            Code.RANGE_NOT_SATISFIABLE,
            Code.STORE_UNAVAILABLE,
        ),
    },
)
async def get_artifact(
    record: LiveRecord,
    name: Annotated[str, Path(examples=["image-0.png"])],
    resources: With,
    known: Annotated[str | None, Header(alias="If-None-Match")] = None,
    wanted: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header(alias="If-Range")] = None,
) -> Response:
    """Download a file of a job: an image, a heatmap, a mask, an overlay, a trace."""
    if not record.state.final:
        detail = f"job {record.id} is {record.state}; its files come when it has succeeded"
        raise ServiceError(Code.JOB_NOT_FINISHED, detail, field="job_id", value=record.id, retry_after=1)
    files = await resources.store.manifest(record.id, record.attempt) if record.result or record.stored_result else []
    found = next((artifact for artifact in files if artifact.name == name), None)
    if found is None:
        detail = f"job {record.id} has no artifact {name!r}; it has {', '.join(file.name for file in files) or 'none'}"
        raise ServiceError(Code.UNKNOWN_ARTIFACT, detail, field="name", value=name)
    key = f"{keys.attempt_folder(record.id, record.attempt)}/{name}"
    return await artifacts.answer(resources.store, key, found, known=known, wanted=wanted, if_range=if_range)


@router.post(
    "/{job_id}/cancel",
    response_model=JobRecord,
    responses={
        200: example(examples.CANCELED, "canceled, or asked to stop at its next step"),
        **problems(*ANY_BODY, Code.UNKNOWN_JOB, Code.JOB_EXPIRED, Code.JOB_FINISHED),
    },
)
async def cancel_job(record: LiveRecord, http: Request, resources: With) -> Response:
    """Stop a job: at once while it is queued, at its next step while it runs. One that learns keeps its best token so far."""
    return written(http, await resources.queue.cancel(record.id))


@router.delete(
    "/{job_id}",
    status_code=204,
    responses={204: {"description": "gone"}, **problems(*ANY_BODY, Code.UNKNOWN_JOB, Code.STORE_UNAVAILABLE)},
)
async def delete_job(record: Record, resources: With) -> None:
    """Delete a job with its events and files. One that runs is stopped at its next step."""
    await resources.store.delete_folder(keys.job_folder(record.id))
    await resources.queue.forget(record)
