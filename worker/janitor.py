"""The janitor: queues jobs that their docket has lost, and deletes artifacts of expired ones, and what belongs to no job.

It is the product's only recovery sweep; every worker runs it.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

from docket import Docket

from contracts.schema.jobs import JobRecord, State, seconds_of, utc_now
from contracts.state import keys, retention, turns, usage
from contracts.state.dockets import enqueue, unknown_of
from contracts.state.keys import text
from contracts.state.ledger import REMEMBERED
from worker.resources import Resources

LOST_SECONDS = 5.0  # a job that waits for longer than this is added to its docket again
TURN = "ovam:janitor"  # string with a short life: one worker at a time cleans the store
ORPHANS_TURN = "ovam:janitor-orphans"  # the same for the search for orphans, which lists every folder
ORPHANS_SECONDS = 3600
AT_A_TIME = 1000  # records, or their lives, that Redis is asked for

log = logging.getLogger(__name__)


async def clean_forever(resources: Resources, dockets: Mapping[str, Docket]) -> None:
    """Look for lost and for expired jobs now and then; what fails is tried again the next time."""
    seconds = resources.settings.janitor_seconds
    while True:
        try:
            await requeue(resources, dockets)
            if await resources.redis.set(TURN, resources.settings.worker_name, nx=True, px=int(seconds * 1000)):
                await delete_expired(resources)
                if quota := resources.settings.store_bytes:
                    await retention.collect(resources.redis, resources.store, quota)
                if await resources.redis.set(ORPHANS_TURN, "", nx=True, ex=ORPHANS_SECONDS):
                    await retention.delete_orphans(resources.redis, resources.store)
        except Exception:
            log.exception("the janitor failed")
        await asyncio.sleep(seconds)


async def requeue(resources: Resources, dockets: Mapping[str, Docket]) -> int:
    """Add jobs that wait for long to their docket, which ignores those it knows; returns how many there were.

    A docket does not know a job whose gateway died, or lost Redis, between filing it and adding it.
    """
    until = (utc_now().timestamp() - LOST_SECONDS) * 1000
    waiting = [text(each) for each in await resources.redis.zrangebyscore(keys.QUEUED, "-inf", until)]
    lost, tenants = defaultdict[str, list[str]](list), dict[tuple[str, str], JobRecord]()
    for start in range(0, len(waiting), AT_A_TIME):
        some = waiting[start : start + AT_A_TIME]
        for job_id, record in zip(some, await resources.ledger.find_all(some), strict=True):
            if record is None or record.state is not State.QUEUED:
                await leave_queues(resources, job_id)
            elif record.tenant:
                tenants[keys.docket_of(record.kind, record.priority), record.tenant] = record
            else:
                lost[keys.docket_of(record.kind, record.priority)].append(job_id)
    for lane, job_ids in lost.items():
        for job_id in await unknown_of(dockets[lane], job_ids):
            await enqueue(dockets[lane], job_id)
    for (lane, _), record in tenants.items():
        await turns.pass_on(resources.redis, dockets[lane], record)
    return len(waiting)


async def leave_queues(resources: Resources, job_id: str) -> None:
    """Take what waits no longer out of every queue that it may be in."""
    async for queue in resources.redis.scan_iter(f"{keys.QUEUED}*"):
        await resources.redis.zrem(queue, job_id)


async def delete_expired(resources: Resources) -> int:
    """Delete the artifacts of jobs that have expired, or have no record; returns how many jobs had some."""
    deleted = 0
    stored = [folder.rpartition("/")[2] async for folder in resources.store.folders_in("jobs")]
    for job_id in await old(resources, stored):
        if await is_over(resources, job_id):
            folder = keys.job_folder(job_id)
            if not await resources.store.delete_folder(folder):
                await resources.store.remove_empty(folder)
            await usage.forget_size(resources.redis, job_id)
            log.debug("job %s: expired, its artifacts are deleted", job_id)
            deleted += 1
    if deleted:
        log.info("the artifacts of %d expired jobs are deleted", deleted)
    return deleted


async def old(resources: Resources, job_ids: Sequence[str]) -> list[str]:
    """Leave out jobs whose records stay for longer than an expired one's: there may be many thousands, which nobody need read."""
    found = list[str]()
    for start in range(0, len(job_ids), AT_A_TIME):
        some = job_ids[start : start + AT_A_TIME]
        async with resources.redis.pipeline(transaction=False) as pipe:
            for job_id in some:
                pipe.pttl(keys.job(job_id))
            lives = await pipe.execute()
        found += [job_id for job_id, life in zip(some, lives, strict=True) if life <= REMEMBERED.total_seconds() * 1000]
    return found


async def is_over(resources: Resources, job_id: str) -> bool:
    """Whether a job's artifacts can go. One without a record may just be being filed, its upload first, so its age counts."""
    record = await resources.ledger.find(job_id)
    if record is not None:
        return record.state is State.EXPIRED
    age = utc_now().timestamp() - seconds_of(job_id)
    return age > resources.settings.job_ttl_seconds + REMEMBERED.total_seconds()
