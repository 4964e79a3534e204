"""The ledger of jobs in Redis: the one place that reads and writes job records, for gateway and workers alike.

A record is one JSON string, replaced by compare-and-set (WATCH / MULTI), so that no change is ever lost. Every change that
a listener can see is appended to the job's event stream in the same transaction.

A worker's part of a job's life; each call returns the record, and raises `LostJob` once the job is no longer the worker's:

    claim(job_id, max_attempts=..., holder=...)    take it: a new attempt, still `queued`, `claimed`
    begin(job_id, attempt)                   its turn on the device has come: `running` (CancelRequested: stop)
    report(job_id, attempt, progress)        how far it is; also starts it (CancelRequested: stop)
    show(job_id, attempt, progress, instead_of=...)      a preview, for those who listen alone
    succeed(job_id, attempt, result, tokens=())          one of these
    canceled(job_id, attempt, result=None, tokens=())    four ends it;
    fail(job_id, attempt, failure)                       started or not,
    hand_back(job_id, attempt)                           a claimed job can end;
    put_back(job_id, attempt, failure, max_attempts=...) or this one, to be tried later

All are fenced by the attempt: a worker that was believed dead and wakes up again changes nothing. A job that is claimed but
not started is canceled at once. `wanted(record, attempt)` is the same check of a record that was read with `find`.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from contracts.schema.errors import Code, Failure, ServiceError
from contracts.schema.jobs import AnyResult, JobRecord, Kind, Progress, State, StoredResult, utc_now
from contracts.state import dead, keys, outbox, paces, rates, usage
from contracts.state.keys import text
from contracts.state.registry import NewToken, enter, numbered
from contracts.state.transitions import LostJob, finished, held, naming_tokens, running, stopped, wanted

REMEMBERED = timedelta(days=7)  # how long an expired job is still answered with "expired" rather than "unknown"
MAX_EVENTS = 2000  # per job
KEPT_EVENTS = 200  # of a job that has ended, about
INNOCENT_ATTEMPTS = 5  # times the deaths that are allowed: a job that is never to blame ends, too
PAGE = 100  # records read at once for a listing
MOST_PAGES = 10  # read for one listing, however few of them it wants


class Ledger:
    """Job records in Redis: a tenant's, to whom others' do not exist, or everybody's."""

    def __init__(self, redis: Redis, tenant: str | None = None) -> None:
        self.redis = redis
        self.tenant = tenant
        """Whose records are seen; None for everybody's, as the workers' machinery needs it."""

    async def find(self, job_id: str) -> JobRecord | None:
        """A record as it stands now, expired if its time is over; None if there is none."""
        record = JobRecord.stored(await self.redis.get(keys.job(job_id)))
        return record.seen_at(utc_now()) if record and self.sees(record) else None

    async def find_all(self, job_ids: Sequence[str]) -> list[JobRecord | None]:
        """`find` several, by one request."""
        records = [JobRecord.stored(data) for data in await self.redis.mget([keys.job(each) for each in job_ids])]
        return [record.seen_at(utc_now()) if record and self.sees(record) else None for record in records]

    def sees(self, record: JobRecord) -> bool:
        """Whether a record is one of the tenant's."""
        return self.tenant in (None, record.tenant)

    async def get(self, job_id: str, *, field: str | None = None) -> JobRecord:
        """A record; a ServiceError (unknown-job) without one."""
        record = await self.find(job_id)
        if record is None:
            raise ServiceError(Code.UNKNOWN_JOB, f"there is no job {job_id!r}", field=field, value=job_id)
        return record

    async def newest(
        self, before: str | None, limit: int, *, kind: Kind | None = None, state: State | None = None
    ) -> tuple[list[JobRecord], str | None]:
        """Up to `limit` records of a kind and state, newest first, all older than the job `before`.

        And before which job to go on, when there are fewer because enough was read; else None.
        """
        found: list[JobRecord] = []
        jobs = keys.of(self.tenant or "", keys.JOBS)
        for _ in range(MOST_PAGES):
            edge = "+" if before is None else f"({before}"
            ids = [text(each) for each in await self.redis.zrevrangebylex(jobs, edge, "-", 0, PAGE)]
            for job_id, data in zip(ids, await self.redis.mget([keys.job(each) for each in ids]), strict=True):
                if data is None:
                    await self.redis.zrem(jobs, job_id)
                    continue
                record = JobRecord.stored(data)
                record = record and record.seen_at(utc_now())
                if record and kind in (None, record.kind) and state in (None, record.state):
                    found.append(record)
                if len(found) == limit:
                    return found, None
            if len(ids) < PAGE:
                return found, None
            before = ids[-1]
        return found, before

    async def claim(self, job_id: str, *, max_attempts: int, holder: str = "") -> JobRecord:
        """Take the job: a new attempt, which waits for the device of `holder`. LostJob if the job is not to be run.

        Fails the job when too many workers have died at it. One that died with another job on its device does not count,
        unless that has happened very often.
        """
        blamed = await self._was_on_device(job_id, holder)

        def take(record: JobRecord) -> JobRecord:
            if record.state.final:
                raise LostJob(job_id)
            if record.cancel_requested or record.is_late():
                return stopped(record)
            if record.retry_at and record.retry_at > utc_now():
                raise LostJob(job_id)  # the janitor knows when
            deaths = record.deaths + (record.claimed and blamed)
            if deaths >= max_attempts or record.attempt - record.attempts_before >= INNOCENT_ATTEMPTS * max_attempts:
                detail = (
                    f"{record.attempt} attempts ended without a result; {deaths} workers died while this job was on their device"
                )
                return finished(record, State.FAILED, error=Failure(code=Code.WORKER_DIED, detail=detail)).changed(deaths=deaths)
            return record.changed(
                state=State.QUEUED, claimed=True, attempt=record.attempt + 1, deaths=deaths, started_at=None, progress=None
            )

        record = await self.change(job_id, take)
        if record.state.final:
            raise LostJob(job_id)
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.set(keys.holder(job_id), holder, ex=life_of(record))
            rates.note(pipe, keys.docket_of(record.kind, record.priority))
            await pipe.execute()
        return record

    async def _was_on_device(self, job_id: str, claimant: str) -> bool:
        """Whether the job was on the device of the worker that held it last, or nothing else is known to have been.

        One that claims it again is alive: it had lost Redis.
        """
        holder = await self.redis.get(keys.holder(job_id))
        if claimant and holder and text(holder) == claimant:
            return False
        there = await self.redis.get(keys.on_device(text(holder))) if holder else None
        return not there or text(there) == job_id

    async def begin(self, job_id: str, attempt: int) -> JobRecord:
        """Say that the device does the work now; LostJob, or its CancelRequested, when it should not."""
        return await self.change(job_id, lambda record: running(wanted(record, attempt)))

    async def report(self, job_id: str, attempt: int, progress: Progress) -> JobRecord:
        """Say how far an attempt is; LostJob, or its CancelRequested, when it should stop."""
        return await self.change(job_id, lambda record: running(wanted(record, attempt)).changed(progress=progress))

    async def show(self, job_id: str, attempt: int, progress: Progress, *, instead_of: str | None = None) -> str:
        """Publish progress with a preview, and take back the event of an earlier one. Records, which are small, do not keep it.

        Returns the event's id; LostJob, or its CancelRequested, when the attempt should stop.
        """
        async with self.redis.pipeline(transaction=True) as pipe:
            while True:
                try:
                    await pipe.watch(keys.job(job_id))
                    record = JobRecord.stored(await pipe.get(keys.job(job_id)))
                    if record is None or not self.sees(record):
                        raise LostJob(job_id)
                    event = event_of(running(wanted(record, attempt)).changed(progress=progress))
                    pipe.multi()
                    pipe.xadd(keys.events(job_id), event, maxlen=MAX_EVENTS)
                    if instead_of is not None:
                        pipe.xdel(keys.events(job_id), instead_of)
                    return text((await pipe.execute())[0])
                except WatchError:
                    continue

    async def succeed(
        self,
        job_id: str,
        attempt: int,
        result: AnyResult | None,
        *,
        stored: StoredResult | None = None,
        tokens: Sequence[NewToken] = (),
    ) -> JobRecord:
        """The attempt's result, or the one that it stored, becomes the job's, and its tokens are entered in the registry."""

        def succeeded(record: JobRecord) -> JobRecord:
            return finished(held(record, attempt), State.SUCCEEDED, result=result).changed(stored_result=stored)

        return await self.change(job_id, succeeded, tokens=tokens)

    async def fail(self, job_id: str, attempt: int, error: Failure) -> JobRecord:
        """The attempt's failure becomes the job's."""
        return await self.change(job_id, lambda record: finished(held(record, attempt), State.FAILED, error=error))

    async def put_back(self, job_id: str, attempt: int, error: Failure, *, max_attempts: int) -> JobRecord:
        """The attempt failed by what may pass: the job is tried again after a while, or fails if it has been tried enough."""

        def later(record: JobRecord) -> JobRecord:
            tries = held(record, attempt).tries + 1
            if record.cancel_requested or record.is_late():
                return stopped(record)
            if tries + record.deaths >= max_attempts:
                return finished(record, State.FAILED, error=error).changed(tries=tries)
            waits = utc_now() + dead.pause_after(tries)
            return record.changed(state=State.QUEUED, claimed=False, started_at=None, progress=None, tries=tries, retry_at=waits)

        return await self.change(job_id, later)

    async def canceled(
        self, job_id: str, attempt: int, result: AnyResult | None = None, *, tokens: Sequence[NewToken] = ()
    ) -> JobRecord:
        """The attempt has stopped on request; what it has kept so far, if anything, is its result."""
        return await self.change(job_id, lambda record: stopped(held(record, attempt), result), tokens=tokens)

    async def hand_back(self, job_id: str, attempt: int) -> JobRecord:
        """The attempt ends before its time, with its worker: the job waits again, unless its client wants it to stop."""

        def wait_again(record: JobRecord) -> JobRecord:
            if held(record, attempt).cancel_requested or record.is_late():
                return stopped(record)
            return record.changed(state=State.QUEUED, claimed=False, started_at=None, progress=None)

        return await self.change(job_id, wait_again)

    async def cancel(self, job_id: str) -> JobRecord:
        """Ask for a job to be stopped: at once if it waits, at its next step if it runs. A final job: job-finished.

        A job that was canceled while it waited for its worker's device stays `claimed`; the worker sees that it is lost.
        """

        def request(record: JobRecord) -> JobRecord:
            if record.state.final:
                raise ServiceError(Code.JOB_FINISHED, f"job {job_id} is already {record.state}", field="job_id", value=job_id)
            if record.state is State.QUEUED:
                return finished(record, State.CANCELED)
            return record.changed(cancel_requested=True)

        return await self.change(job_id, request)

    async def cancel_late(self, job_id: str) -> JobRecord:
        """Cancel a job whose deadline has passed, if it waits; one that runs is stopped by its attempt. LostJob if it is gone."""
        return await self.change(
            job_id, lambda record: stopped(record) if record.is_late() and record.state is State.QUEUED else record
        )

    async def expire(self, job_id: str) -> JobRecord:
        """End a final job's time to live now; returns its record as it was kept. LostJob for one that is not final."""

        def end(record: JobRecord) -> JobRecord:
            if not record.state.final:
                raise LostJob(job_id)
            return record.changed(expires_at=min(record.expires_at, utc_now()))

        return await self.change(job_id, end)

    async def forget(self, job_id: str) -> None:
        """Delete a record and its events; an attempt at it is lost at its next report."""
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.job(job_id), keys.events(job_id), keys.holder(job_id))
            pipe.zrem(keys.DEADLINES, job_id)
            pipe.zrem(keys.DEAD, job_id)
            for place in keys.listings(self.tenant or ""):
                pipe.zrem(place, job_id)
            await pipe.execute()

    async def change(
        self, job_id: str, change: Callable[[JobRecord], JobRecord], *, tokens: Sequence[NewToken] = ()
    ) -> JobRecord:
        """Replace a record by `change` of it, again if somebody else was faster; LostJob if it is gone.

        Tokens are entered in the registry in the same transaction, and named in the record's result. Where the connection was
        lost before Redis answered, the end of a job may have been written all the same; then it is not changed again, which
        would find that the job is no longer the attempt's.
        """
        ended = b""
        async with self.redis.pipeline(transaction=True) as pipe:
            while True:
                try:
                    await pipe.watch(keys.job(job_id))
                    stored = await pipe.get(keys.job(job_id))
                    before = JobRecord.stored(stored)
                    if before is None or not self.sees(before):
                        raise LostJob(job_id)
                    if ended and stored == ended:
                        return before
                    if tokens:
                        await pipe.watch(keys.of(before.tenant, keys.TOKENS))
                    cards = await numbered(pipe, tokens, before.tenant)
                    record = naming_tokens(change(before), [card.reference for card in cards])
                    ended = record.model_dump_json().encode() if record.state.final else b""
                    pipe.multi()
                    write(pipe, record, announced=event_of(record) != event_of(before), ends=not before.state.final)
                    enter(pipe, cards, before.tenant)
                    if record.state is not before.state:
                        outbox.post(pipe, record)
                    await pipe.execute()
                except WatchError:
                    continue
                return record


def write(pipe: Pipeline, record: JobRecord, *, announced: bool = True, ends: bool = True) -> None:
    """Queue the commands that store a record and publish its event; `ends` unless a final record was final before."""
    pipe.set(keys.job(record.id), record.model_dump_json(), ex=life_of(record))
    if announced:
        pipe.xadd(keys.events(record.id), event_of(record), maxlen=KEPT_EVENTS if record.state.final else MAX_EVENTS)
    pipe.expire(keys.events(record.id), life_of(record))
    for queue in keys.queues(record.kind, record.tenant, record.priority):
        if record.claimed or record.state is not State.QUEUED:
            pipe.zrem(queue, record.id)
        elif record.attempt:  # handed back: it has waited longest, or has to wait for some time
            pipe.zadd(queue, {record.id: record.retry_at.timestamp() * 1000 if record.retry_at else 0})
    if record.deadline and record.state.final:
        pipe.zrem(keys.DEADLINES, record.id)
    if record.state.final and ends:
        usage.charge(pipe, record)
        paces.learn(pipe, record)
        dead.bury(pipe, record)
        pipe.hincrby(keys.COUNTS, f"{record.kind}:{record.state}", 1)
        if record.error:
            pipe.hincrby(keys.FAILURES, f"{record.kind}:{record.error.code}", 1)
    elif record.attempts_before and not record.state.final:
        pipe.zrem(keys.DEAD, record.id)


def life_of(record: JobRecord) -> timedelta:
    """How long from now Redis keeps a record and its events."""
    return record.expires_at - utc_now() + REMEMBERED


def event_of(record: JobRecord) -> dict[str, str]:
    """The part of a job's record that its event stream carries."""
    name = "progress" if record.state is State.RUNNING and record.progress else "state"
    return {"event": name, "data": record.model_dump_json(include={"id", "state", "progress", "error"})}
