"""The one producer: a job is admitted, filed and tied to its idempotency key in one step, or not at all."""

import asyncio
import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Self

import structlog
from docket import Docket
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Schema
from contracts.schema.jobs import AnyJob, JobRecord, State, utc_now
from contracts.state import keys, retention, turns, usage
from contracts.state.keys import text
from contracts.state.ledger import Ledger, event_of, life_of
from contracts.state.rates import Rates
from contracts.state.requests import split
from contracts.state.store import ArtifactStore
from service import limits
from service.access import Client
from service.filing import SUBMIT
from service.refusals import RefusalError
from service.tracing import origin

RETRY_AFTER = 5  # seconds, when the queue is full and nobody knows how fast it moves
LONGEST_RETRY = 300
DELIVERED_WITHIN = 10.0  # seconds, in which a job that is filed gets to its docket; its client has the answer
WITHDRAWN_WITHIN = 0.5  # seconds, in which a job is taken from it; its client waits
UNKNOWN_OUTCOME = "Redis did not answer, and the job may have been filed; with an `Idempotency-Key` you can safely try again"
NOTHING: Mapping[str, Any] = MappingProxyType({})
REPLAYED_FOR = timedelta(hours=24)
log = structlog.get_logger("ovam.gateway")


def milliseconds(moment: datetime | None) -> int | str:
    """A time as the script takes it."""
    return "" if moment is None else int(moment.timestamp() * 1000)


@dataclass(frozen=True)
class Once:
    """An idempotency key, what it was first used for, and how long its first answer may take (seconds)."""

    key: str
    fingerprint: str
    waits: int

    @staticmethod
    def of(key: str, request: Schema, waits: int, *, about: str = "") -> "Once":
        """The key of a request as the client sent it; `about` is what its path says.

        What it was used for is written the same way in every process: another gateway may get the request the next time.
        """
        content = f"{type(request).__name__} {about} {json.dumps(request.model_dump(mode='json'), sort_keys=True)}"
        return Once(key, hashlib.sha256(content.encode()).hexdigest(), waits)


class Queue:
    """Puts jobs where workers find them."""

    def __init__(
        self, redis: Redis, dockets: dict[str, Docket], store: ArtifactStore, *, max_queued: int, job_ttl: timedelta
    ) -> None:
        self.redis = redis
        self.ledger = Ledger(redis)
        self.dockets = dockets
        self.store = store
        self.max_queued = max_queued
        self.job_ttl = job_ttl
        self.script = redis.register_script(SUBMIT)
        self.rates = Rates(redis)
        self.client = Client()
        self.delivering = set[asyncio.Task[None]]()
        self.in_order = asyncio.Lock()

    def used_by(self, client: Client, ledger: Ledger) -> Self:
        """The same for the jobs of a client, which are in its ledger."""
        view = copy(self)
        view.client, view.ledger = client, ledger
        return view

    async def submit(
        self, job: AnyJob, once: Once | None, uploads: Mapping[str, bytes] = NOTHING, terms: Mapping[str, Any] = NOTHING
    ) -> tuple[JobRecord, bool]:
        """File a job, its uploads (by field) and a large request first; returns its record and whether it is new.

        `terms` are fields of the record: what it was estimated to take, how urgent it is, whom to tell.

        Raises queue-full, the problems of the client's limits, idempotency-key-reused or idempotency-key-in-flight, and
        redis-unavailable when nobody knows whether it was filed.
        """
        terms = {**terms, **origin()}
        filed = JobRecord.filed(job, self.job_ttl, self.client.tenant).model_copy(update=terms)
        record, objects = split(filed)
        objects |= {keys.upload(record.id, field): data for field, data in uploads.items()}
        for key, data in objects.items():
            await self.store.put(key, data)
        outcome, job_id, ahead = "", "", 0
        lane = keys.docket_of(record.kind, record.priority)
        try:
            outcome, job_id, ahead = await self._admit(once, record)
        except ServiceError:
            outcome = "refused"
            raise
        except RedisError as error:
            log.warning("redis-unavailable", error=type(error).__name__)
            raise ServiceError(Code.REDIS_UNAVAILABLE, UNKNOWN_OUTCOME, retry_after=RETRY_AFTER) from error
        finally:
            # Nobody knows what became of a submission that Redis did not answer; the janitor removes what no job has.
            if outcome not in ("created", ""):
                for key in objects:
                    await self.store.delete(key)
        structlog.contextvars.bind_contextvars(job_id=job_id)
        if outcome == "full":
            detail = f"{self.max_queued} jobs are waiting already; try again later"
            raise ServiceError(Code.QUEUE_FULL, detail, retry_after=await self.retry_after(lane))
        if outcome == "created":
            task = asyncio.create_task(self._deliver(record))  # the job is filed: its client need not wait for the rest
            self.delivering.add(task)
            task.add_done_callback(self.delivering.discard)
            return await self._with_start(record, ahead), True
        return await self.ledger.get(job_id), False

    async def delivered(self) -> None:
        """Wait until every job that was filed here has been handed to its docket, or left to a janitor."""
        if self.delivering:
            await asyncio.wait(self.delivering)  # whoever gives up waiting leaves them to it

    async def replay(self, once: Once) -> JobRecord | None:
        """The job that an earlier copy of this request created, if it still exists."""
        outcome, job_id, _ = await self._run(once, None)
        return await self.ledger.get(job_id) if outcome == "replayed" else None

    async def answered(self, once: Once) -> None:
        """The first request with this key has its answer; further ones get the same job at once."""
        await self.redis.hset(keys.idempotency(once.key, self.client.tenant), "until", 0)

    async def cancel(self, job_id: str) -> JobRecord:
        """Stop a job: one that no worker has claimed is taken from its docket as well."""
        record = await self.ledger.cancel(job_id)
        if record.state.final and not record.claimed:
            await self._withdraw(record)
            await self._pass_on(record)
        return record

    async def forget(self, record: JobRecord) -> None:
        """Take a job out of the queue and out of the ledger."""
        waits = record.state is State.QUEUED and not record.claimed
        if waits:
            await self._withdraw(record)
        await self.ledger.forget(record.id)
        await usage.give_back(self.redis, record)
        if waits:
            await self._pass_on(record)

    async def retry_after(self, lane: str) -> int:
        """After how many seconds a lane that is full has room again, by how fast it moves."""
        seconds = await self.rates.seconds(lane)
        return RETRY_AFTER if seconds is None else min(LONGEST_RETRY, max(1, math.ceil(seconds)))

    async def with_start(self, record: JobRecord) -> JobRecord:
        """A record, of a job that waits with the time when it is expected to be taken."""
        if record.state is not State.QUEUED or record.claimed:
            return record
        lane = keys.docket_of(record.kind, record.priority)
        ahead = await self.redis.zrank(keys.waiting(lane), record.id)
        return record if ahead is None else await self._with_start(record, ahead)

    async def _with_start(self, record: JobRecord, ahead: int) -> JobRecord:
        seconds = await self.rates.seconds(keys.docket_of(record.kind, record.priority))
        if seconds is None:
            return record
        start = utc_now() + timedelta(seconds=ahead * seconds)
        return record.model_copy(update={"estimated_start": max(start, record.retry_at or start)})

    async def depth(self) -> int:
        """How many jobs no worker has claimed."""
        return await self.redis.zcard(keys.QUEUED)

    async def _deliver(self, record: JobRecord) -> None:
        """Hand a job to its docket. It is filed: should this fail, a worker's janitor does it later."""
        try:
            async with self.in_order, asyncio.timeout(DELIVERED_WITHIN):
                await turns.admit(self.redis, self.dockets[keys.docket_of(record.kind, record.priority)], record)
        except (RedisError, TimeoutError) as error:
            log.warning("delivery-postponed", job_id=record.id, error=type(error).__name__)

    async def _pass_on(self, record: JobRecord) -> None:
        """Hand what is due of the record's tenant to the docket."""
        await turns.pass_on(self.redis, self.dockets[keys.docket_of(record.kind, record.priority)], record)

    async def _withdraw(self, record: JobRecord) -> None:
        """Take a job from its docket. A worker that gets it all the same finds that it is over, or gone from the ledger."""
        with suppress(RedisError, TimeoutError):
            async with asyncio.timeout(WITHDRAWN_WITHIN):
                await self.delivered()
                await self.dockets[keys.docket_of(record.kind, record.priority)].cancel(record.id)

    async def _admit(self, once: Once | None, record: JobRecord) -> tuple[str, str, int]:
        """File a job; where a client's jobs keep too much, and its key says so, after letting go those used longest ago."""
        try:
            return await self._run(once, record)
        except RefusalError as error:
            most = self.client.limits
            if error.code is not Code.STORAGE_LIMIT or most.bytes_kept is None or most.when_full != "collect":
                raise
            await retention.collect_of(self.redis, self.store, self.client.tenant, most.bytes_kept)
        return await self._run(once, record)

    async def _run(self, once: Once | None, record: JobRecord | None) -> tuple[str, str, int]:
        """One look at the key, and the job filed if there is one to file. RefusalError: one of the client's limits."""
        tenant, most = self.client.tenant, self.client.limits
        key = [once.fingerprint, int(REPLAYED_FOR.total_seconds()), once.waits * 1000] if once else ["", 0, 0]
        values = ["", "", "", "", "", 0]
        own, lanes = ["", ""], [keys.QUEUED] * 3
        if record is not None:
            event = event_of(record)
            life = int(life_of(record).total_seconds())
            values = [record.id, record.kind, record.model_dump_json(), event["event"], event["data"], life]
            lane = keys.docket_of(record.kind, record.priority)
            own, lanes = (
                [keys.job(record.id), keys.events(record.id)],
                [keys.QUEUED, keys.waiting(lane), keys.waiting(lane, tenant)],
            )
        used = [keys.device_seconds(tenant, utc_now().date()), keys.kept(tenant), keys.bytes_kept(tenant)]
        bounds = ["" if each is None else each for each in (most.queued, most.device_seconds_per_day, most.bytes_kept)]
        answer = await self.script(
            keys=[
                *own,
                keys.of(tenant, keys.JOBS),
                *lanes,
                keys.COUNTS,
                keys.idempotency(once.key if once else "", tenant),
                *used,
                keys.DEADLINES,
            ],
            args=[*values, self.max_queued, *key, *bounds, milliseconds(record.deadline if record else None)],
        )
        if isinstance(answer[1], int):
            lane = keys.docket_of(record.kind, record.priority) if record else keys.DOCKET
            raise limits.used_up(text(answer[0]), most, answer[1], await self.retry_after(lane))
        outcome, job_id = (text(part) for part in answer[:2])
        if outcome == "reused":
            detail = f"`Idempotency-Key` {once.key if once else ''!r} was used for another request (job {job_id})"
            raise ServiceError(Code.IDEMPOTENCY_KEY_REUSED, detail, field="Idempotency-Key")
        if outcome == "in-flight":
            detail = f"the first request with this `Idempotency-Key` still waits for job {job_id}"
            raise ServiceError(Code.IDEMPOTENCY_KEY_IN_FLIGHT, detail, field="Idempotency-Key", retry_after=1)
        return outcome, job_id, answer[2] if len(answer) > 2 else 0  # noqa: PLR2004  # only a new job has others before it
