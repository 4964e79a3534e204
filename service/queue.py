"""The one producer: a job is admitted, filed and tied to its idempotency key in one step, or not at all."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

import structlog
from docket import Docket
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Schema
from contracts.schema.jobs import AnyJob, JobRecord, State
from contracts.state import keys
from contracts.state.keys import text
from contracts.state.ledger import Ledger, event_of, life_of
from contracts.state.store import ArtifactStore
from service.tracing import origin

RETRY_AFTER = 5  # seconds, when the queue is full
REPLAYED_FOR = timedelta(hours=24)
log = structlog.get_logger("ovam.gateway")

SUBMIT = """
local job, events, jobs, queued, lane, counts, idempotency = unpack(KEYS)
local id, kind, record, event, data, life, limit, fingerprint, replayed_for, waits = unpack(ARGV)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

if fingerprint ~= '' then
  local seen = redis.call('HMGET', idempotency, 'fingerprint', 'id', 'until', 'job')
  if seen[1] and seen[1] ~= fingerprint then return {'reused', seen[2]} end
  if seen[1] and redis.call('EXISTS', seen[4]) == 1 then
    if tonumber(seen[3]) > now then return {'in-flight', seen[2]} end
    return {'replayed', seen[2]}
  end
end
if record == '' then return {'absent', ''} end
if redis.call('ZCARD', queued) >= tonumber(limit) then return {'full', ''} end

redis.call('SET', job, record, 'EX', life)
redis.call('XADD', events, '*', 'event', event, 'data', data)
redis.call('EXPIRE', events, life)
redis.call('ZADD', jobs, 0, id)
redis.call('ZADD', queued, now, id)
redis.call('ZADD', lane, now, id)
redis.call('HINCRBY', counts, kind .. ':submitted', 1)
if fingerprint ~= '' then
  redis.call('HSET', idempotency, 'fingerprint', fingerprint, 'id', id, 'until', now + waits, 'job', job)
  redis.call('EXPIRE', idempotency, replayed_for)
end
return {'created', id}
"""


@dataclass(frozen=True)
class Once:
    """An idempotency key, what it was first used for, and how long its first answer may take (seconds)."""

    key: str
    fingerprint: str
    waits: int

    @staticmethod
    def of(key: str, request: Schema, waits: int, *, about: str = "") -> "Once":
        """The key of a request as the client sent it; `about` is what its path says."""
        content = f"{type(request).__name__} {about} {request.model_dump_json()}"
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

    async def submit(self, job: AnyJob, once: Once | None, upload: bytes | None = None) -> tuple[str, bool]:
        """File a job, its upload first; returns its id and whether it is new.

        Raises queue-full, idempotency-key-reused or idempotency-key-in-flight.
        """
        record = JobRecord.filed(job, self.job_ttl).model_copy(update=origin())
        if upload is not None:
            await self.store.put(keys.upload(record.id), upload)
        outcome, job_id = "", ""
        try:
            outcome, job_id = await self._run(once, record)
        except ServiceError:
            outcome = "refused"
            raise
        finally:
            # Nobody knows what became of a submission that Redis did not answer; the janitor removes what no job has.
            if upload is not None and outcome not in ("created", ""):
                await self.store.delete(keys.upload(record.id))
        structlog.contextvars.bind_contextvars(job_id=job_id)
        if outcome == "full":
            detail = f"{self.max_queued} jobs are waiting already; try again later"
            raise ServiceError(Code.QUEUE_FULL, detail, retry_after=RETRY_AFTER)
        if outcome == "created":
            await self._deliver(job_id, record.kind)
        return job_id, outcome == "created"

    async def replay(self, once: Once) -> str | None:
        """The job that an earlier copy of this request created, if it still exists."""
        outcome, job_id = await self._run(once, None)
        return job_id if outcome == "replayed" else None

    async def answered(self, once: Once) -> None:
        """The first request with this key has its answer; further ones get the same job at once."""
        await self.redis.hset(keys.idempotency(once.key), "until", 0)

    async def cancel(self, job_id: str) -> JobRecord:
        """Stop a job: one that no worker has claimed is taken from its docket as well."""
        record = await self.ledger.cancel(job_id)
        if record.state.final and not record.claimed:
            await self._withdraw(record)
        return record

    async def forget(self, record: JobRecord) -> None:
        """Take a job out of the queue and out of the ledger."""
        if record.state is State.QUEUED and not record.claimed:
            await self._withdraw(record)
        await self.ledger.forget(record.id)

    async def depth(self) -> int:
        """How many jobs no worker has claimed."""
        return await self.redis.zcard(keys.QUEUED)

    async def _deliver(self, job_id: str, kind: str) -> None:
        """Hand a job to its docket. The job is filed already: should this fail, a worker's janitor delivers it later."""
        try:
            await self.dockets[keys.docket_of(kind)].add(keys.TASK, key=job_id)(job_id)
        except RedisError as error:
            log.warning("delivery-postponed", job_id=job_id, error=str(error))

    async def _withdraw(self, record: JobRecord) -> None:
        """Take a job from its docket; a worker that has just got it finds it gone from the ledger."""
        await self.dockets[keys.docket_of(record.kind)].cancel(record.id)

    async def _run(self, once: Once | None, record: JobRecord | None) -> tuple[str, str]:
        """One look at the key, and the job filed if there is one to file."""
        queues = keys.queues(record.kind if record else "")
        names = [keys.JOBS, *queues, keys.COUNTS, keys.idempotency(once.key if once else "")]
        key = [once.fingerprint, int(REPLAYED_FOR.total_seconds()), once.waits * 1000] if once else ["", 0, 0]
        if record is None:
            values = ["", "", "", "", "", 0, self.max_queued, *key]
            answer = await self.script(keys=["", "", *names], args=values)
        else:
            event, life = event_of(record), int(life_of(record).total_seconds())
            values = [record.id, record.kind, record.model_dump_json(), event["event"], event["data"], life, self.max_queued]
            answer = await self.script(keys=[keys.job(record.id), keys.events(record.id), *names], args=[*values, *key])
        outcome, job_id = (text(part) for part in answer)
        if outcome == "reused":
            detail = f"`Idempotency-Key` {once.key if once else ''!r} was used for another request (job {job_id})"
            raise ServiceError(Code.IDEMPOTENCY_KEY_REUSED, detail, field="Idempotency-Key")
        if outcome == "in-flight":
            detail = f"the first request with this `Idempotency-Key` still waits for job {job_id}"
            raise ServiceError(Code.IDEMPOTENCY_KEY_IN_FLIGHT, detail, field="Idempotency-Key", retry_after=1)
        return outcome, job_id
