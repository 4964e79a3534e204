"""The dead letter: jobs that were given up, though nothing is known to be wrong with what they ask for.

Such a job killed its workers, or met a store that took nothing, as often as `OVAM_MAX_ATTEMPTS` allows. Its record says why it
failed, as any other's; an operator may look at it and let it run again. What is wrong by itself, such as a job that needs
more memory than the device has, fails at once and is not here.
"""

from datetime import timedelta

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from contracts.schema.errors import Code, ServiceError
from contracts.schema.jobs import JobRecord, State, utc_now
from contracts.state import keys
from contracts.state.keys import text

GIVEN_UP = (Code.WORKER_DIED, Code.STORE_UNAVAILABLE)
MOST = 1000  # the newest ones
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(minutes=15)  # before a job is tried again


def pause_after(tries: int) -> timedelta:
    """How long a job waits after so many tries that failed."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 4 ** (tries - 1))


def bury(pipe: Pipeline, record: JobRecord) -> None:
    """Queue the commands that enter a job that has just failed, if it was given up."""
    if record.error is not None and record.error.code in GIVEN_UP:
        pipe.zadd(keys.DEAD, {record.id: utc_now().timestamp()})
        pipe.zremrangebyrank(keys.DEAD, 0, -MOST - 1)


def revived(record: JobRecord) -> JobRecord:
    """The record of a job that was given up, as if it were new. ServiceError (job-finished) for any other."""
    record = record.seen_at(utc_now())
    if record.error is None or record.error.code not in GIVEN_UP:
        detail = f"job {record.id} is {record.state}; allowed: a failed one that `ovam jobs dead` lists"
        raise ServiceError(Code.JOB_FINISHED, detail, field="job_id", value=record.id)
    return record.changed(
        state=State.QUEUED,
        error=None,
        claimed=False,
        deaths=0,
        tries=0,
        retry_at=None,
        deadline=None,
        attempts_before=record.attempt,
        started_at=None,
        finished_at=None,
        progress=None,
        expires_at=utc_now() + (record.expires_at - (record.finished_at or record.created_at)),
    )


async def dead(redis: Redis) -> list[JobRecord]:
    """The records of all jobs that were given up, the newest first; those that have expired are forgotten."""
    ids = [text(each) for each in await redis.zrevrange(keys.DEAD, 0, -1)]
    records = []
    for job_id, data in zip(ids, await redis.mget([keys.job(each) for each in ids]) if ids else [], strict=True):
        record = JobRecord.stored(data)
        record = record and record.seen_at(utc_now())
        if record is None or record.state is not State.FAILED:
            await redis.zrem(keys.DEAD, job_id)
        else:
            records.append(record)
    return records
