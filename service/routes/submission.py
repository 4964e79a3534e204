"""What all ways to ask for a job have in common: media type, idempotency, and waiting for the answer."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, TypeVar

from fastapi import Header, Response
from fastapi import Request as HttpRequest

from contracts.schema.fields import Schema
from contracts.schema.jobs import AnyJob, JobRecord
from service.events import finished
from service.queue import Once
from service.resources import Resources
from service.validation.lookups import Lookups

LONGEST_WAIT = 60  # seconds
RETRY_AFTER = "1"  # second
WAIT = re.compile(r"\bwait\s*=\s*(\d{1,9})\b", re.IGNORECASE | re.ASCII)
R = TypeVar("R", bound=Schema)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="the same key with the same body gives the same job, for 24 hours",
    ),
]
Prefer = Annotated[
    str | None,
    Header(alias="Prefer", description="`wait=N`: answer with the finished job if it ends within N seconds, at most 60"),
]


def asked_wait(prefer: str | None) -> int:
    """How many seconds a client wants to wait; a preference that makes no sense is none."""
    found = WAIT.search(prefer or "")
    return min(LONGEST_WAIT, int(found.group(1))) if found else 0


async def accept(
    http: HttpRequest,
    request: R,
    filled: Callable[[R, Lookups], Awaitable[AnyJob]],
    resources: Resources,
    key: str | None,
    prefer: str | None,
    *,
    upload: bytes | None = None,
) -> Response:
    """Fill in and check a request, file its job, with a file that came with it, and answer with the job's record."""
    wait = asked_wait(prefer)
    once = Once.of(key, request, wait, about=str(http.path_params.get("job_id", ""))) if key else None
    job_id, new = (await resources.queue.replay(once) if once else None), False
    if job_id is None:
        job_id, new = await resources.queue.submit(await filled(request, resources.lookups), once, upload)
    try:
        record = await finished(resources.patient, job_id, wait) if wait else await resources.ledger.get(job_id)
    finally:
        if once and new and wait:
            await resources.queue.answered(once)
    return answer(http, record, waited=bool(wait), replayed=not new)


def answer(http: HttpRequest, record: JobRecord, *, waited: bool, replayed: bool) -> Response:
    """201 with a finished job that the client waited for, else 202."""
    headers = {"Location": f"{root_of(http)}/v1/jobs/{record.id}"}
    done = waited and record.state.final
    if not done:
        headers["Retry-After"] = RETRY_AFTER
    if waited:
        headers["Preference-Applied"] = "wait"
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return written(http, record, 201 if done else 202, headers)


def written(http: HttpRequest, record: JobRecord, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A record as an answer, the addresses of its files below the gateway's root path."""
    body = record.model_dump_json(context={"root": root_of(http)})
    return Response(body, status, dict(headers or {}), "application/json")


def root_of(http: HttpRequest) -> str:
    """The path below which a proxy shows the gateway; empty without one."""
    return str(http.scope.get("root_path", "")).rstrip("/")
