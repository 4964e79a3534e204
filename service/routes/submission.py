"""What all job submissions share: media type, idempotency, and waiting for the answer."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import Header, Response
from fastapi import Request as HttpRequest
from redis.exceptions import RedisError
from starlette.types import Receive, Scope, Send

from contracts.schema.fields import Schema
from contracts.schema.jobs import AnyJob, JobRecord
from contracts.state.results import with_result
from service.admission import admitted
from service.queue import NOTHING, Once
from service.resources import Resources
from service.terms import Terms
from service.validation.lookups import Lookups

LONGEST_WAIT = 60  # seconds
RETRY_AFTER = "1"  # second
WAIT = re.compile(r"\bwait\s*=\s*(\d{1,9})\b", re.IGNORECASE | re.ASCII)
R = TypeVar("R", bound=Schema)
log = structlog.get_logger("ovam.gateway")

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
    terms: Terms,
    key: str | None,
    prefer: str | None,
    *,
    uploads: Mapping[str, bytes] = NOTHING,
) -> Response:
    """Fill in and check a request, file its job, with the files that came with it, and answer with the job's record."""
    wait, once = asked_wait(prefer), None
    if key:
        once = await asyncio.to_thread(Once.of, key, request, wait, about=str(http.path_params.get("job_id", "")))
    record, new = await filed(request, filled, resources, once, terms.fields(), uploads=uploads)
    if not wait:
        if not new:
            record = await whole(record, resources)
        return answer(http, record, waited=False, replayed=not new)
    return Waiting(HttpRequest(http.scope), record, wait, once, resources, new=new)


async def filed(
    request: R,
    filled: Callable[[R, Lookups], Awaitable[AnyJob]],
    resources: Resources,
    once: Once | None,
    terms: Mapping[str, Any],
    *,
    uploads: Mapping[str, bytes] = NOTHING,
) -> tuple[JobRecord, bool]:
    """Fill in and check a request, and file its job: returns its record, and whether it is new.

    `terms` are fields of the record. A request that was filed `once` before gives the same job.
    """
    record = await resources.queue.replay(once) if once else None
    if record is not None:
        return record, False
    job = await filled(request, resources.lookups)
    return await resources.queue.submit(job, once, uploads, {"estimate": await admitted(job, resources.lookups), **terms})


class Waiting(Response):
    """An answer that waits for its job. It is sent after the request was handled, so that nothing of its body is kept meanwhile.

    When it cannot wait or look (Redis is away, the gateway stops), it says what is known: the job was filed.
    """

    def __init__(
        self, http: HttpRequest, record: JobRecord, wait: int, once: Once | None, resources: Resources, *, new: bool
    ) -> None:
        super().__init__()
        self.http = http
        self.record = record
        self.wait = wait
        self.once = once
        self.resources = resources
        self.new = new

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, then answer."""
        record, resources = self.record, self.resources
        try:
            await resources.events.finished(record.id, self.wait)
            record = await whole(await resources.ledger.get(record.id), resources)
        except RedisError as error:
            log.warning("redis-unavailable", error=type(error).__name__)
        finally:
            if self.once and self.new:
                with suppress(RedisError):
                    await resources.queue.answered(self.once)
        await answer(self.http, record, waited=True, replayed=not self.new)(scope, receive, send)


async def whole(record: JobRecord, resources: Resources) -> JobRecord:
    """A record with its result, wherever that is kept, or with the time when it is expected to begin."""
    return await with_result(await resources.queue.with_start(record), resources.store)


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
