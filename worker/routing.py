"""Which jobs a worker leaves to others: those whose model it has not, and, for a moment, those whose trace another has in memory.

All workers take jobs from the same dockets. A job that is better left to another worker goes back unclaimed for a short while,
and whichever worker is free gets it then.
"""

from collections.abc import Iterable
from datetime import timedelta

from redis.asyncio import Redis

from contracts.schema.attribute import AttributeJob
from contracts.schema.errors import ServiceError
from contracts.schema.images import ImagesResult
from contracts.schema.jobs import AnyJob, JobRecord, utc_now
from contracts.schema.probe import ProbeJob
from contracts.schema.workers import Heartbeat
from contracts.state import keys, turns
from contracts.state.keys import text
from contracts.state.requests import request_of
from worker.resources import Resources
from worker.settings import WorkerSettings

SOONEST_LOOK, LATEST_LOOK = timedelta(milliseconds=100), timedelta(seconds=5)
READ_BYTES_PER_SECOND = 200e6  # what reading a trace from a store and unpacking it may be expected to do


def lanes(settings: WorkerSettings, batch: int = 1) -> dict[str, int]:
    """Return the dockets that a worker takes jobs from, and how many jobs of each it holds at a time."""
    several = max(settings.long_jobs, batch)
    return {keys.INTERACTIVE: settings.short_jobs, keys.URGENT: 1, keys.DOCKET: several, keys.BULK: several}


def places_left(resources: Resources, record: JobRecord, held: Iterable[JobRecord]) -> int:
    """How many more jobs of a tenant this worker may be handed beside those that it holds.

    Half of its places in a lane are for other tenants, unless it has no more than two: one has the device, and one is ready.
    """
    lane = lane_of(record)
    places = lanes(resources.settings, resources.batches.most)[lane]
    if places <= turns.AT_A_TIME:
        return turns.AT_A_TIME
    return places // 2 - sum((each.tenant, lane_of(each)) == (record.tenant, lane) for each in held)


def lane_of(record: JobRecord) -> str:
    """In which docket a job waits."""
    return keys.docket_of(record.kind, record.priority)


async def left_to_others(resources: Resources, job_id: str) -> timedelta | None:
    """For how long a job is put back; None if this worker takes it. What cannot be read is for the attempt to say."""
    record = await resources.ledger.find(job_id)
    if record is None or record.state.final or record.claimed:
        return None
    try:
        job = await request_of(record, resources.store)
    except ServiceError:
        return None
    age = utc_now() - record.created_at
    if job.kind != "import" and job.model not in resources.settings.models:
        return min(max(age / 10, SOONEST_LOOK), LATEST_LOOK)
    return SOONEST_LOOK if await waits_for_its_trace(resources, job, age) else None


async def waits_for_its_trace(resources: Resources, job: AnyJob, age: timedelta) -> bool:
    """Whether a question should still wait for the worker that has its trace in memory: no longer than it takes without."""
    if not isinstance(job, AttributeJob | ProbeJob):
        return False
    source = await resources.ledger.find(job.job_id)
    if source is None or not isinstance(source.result, ImagesResult) or job.image >= len(source.result.images):
        return False
    here = (source.id, source.attempt, job.image) in resources.scenes
    if here or age + SOONEST_LOOK > time_without_it(source, source.result, job.image):
        return False
    holder = text(await resources.redis.get(keys.holder(source.id)) or "")
    beat = await run_of(resources.redis, holder) if holder and holder != resources.occupant.holder else None
    return beat is not None and beat.state == "ready" and beat.trace_cache_bytes > 0 and not is_full(beat, resources)


def time_without_it(source: JobRecord, images: ImagesResult, image: int) -> timedelta:
    """How long another worker takes to have a trace: to read it, or to compute it again by its replay, as the image took once."""
    if images.keep == "replay" and source.started_at and source.finished_at:
        return (source.finished_at - source.started_at) / len(images.images)
    return timedelta(seconds=images.images[image].trace_bytes / READ_BYTES_PER_SECOND)


async def run_of(redis: Redis, holder: str) -> Heartbeat | None:
    """What a run of a worker last said of itself; None if it is over."""
    data = await redis.get(keys.run(holder))
    return None if data is None else Heartbeat.model_validate_json(data)


def is_full(beat: Heartbeat, resources: Resources) -> bool:
    """Whether a worker holds as many short jobs as one like this takes."""
    short = [job for job in beat.jobs if keys.docket_of(job.kind) == keys.INTERACTIVE]
    return len(short) >= resources.settings.short_jobs
