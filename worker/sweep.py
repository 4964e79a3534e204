"""The broom: puts jobs that fell between record and queue back, and deletes the artifacts of expired ones."""

import asyncio
import logging
from collections.abc import Mapping

import obstore
from docket import Docket

from contracts import keys
from contracts.jobs import State, utc_now
from contracts.ledger import REMEMBERED, text
from worker.resources import Resources

FORGOTTEN_SECONDS = 5.0  # a job that waits longer than this is offered to its docket again
TURN = "ovam:sweep"  # string with a short life: one worker sweeps the store at a time
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"

log = logging.getLogger(__name__)


async def sweep_forever(resources: Resources, dockets: Mapping[str, Docket]) -> None:
    """Sweep now and then; a sweep that fails is tried again at the next time."""
    seconds = resources.settings.sweep_seconds
    while True:
        try:
            await requeue(resources, dockets)
            if await resources.redis.set(TURN, resources.settings.worker_name, nx=True, px=int(seconds * 1000)):
                await delete_expired(resources)
        except Exception:
            log.exception("the sweep failed")
        await asyncio.sleep(seconds)


async def requeue(resources: Resources, dockets: Mapping[str, Docket]) -> int:
    """Offer jobs that wait for long to their docket, which ignores those it knows; returns how many there were."""
    until = (utc_now().timestamp() - FORGOTTEN_SECONDS) * 1000
    waiting = [text(each) for each in await resources.redis.zrangebyscore(keys.QUEUED, "-inf", until)]
    for job_id in waiting:
        record = await resources.ledger.find(job_id)
        if record is None or record.state is not State.QUEUED:
            await resources.redis.zrem(keys.QUEUED, job_id)
            continue
        await dockets[keys.docket_of(record.kind)].add(keys.TASK, key=job_id)(job_id)
    return len(waiting)


async def delete_expired(resources: Resources) -> int:
    """Delete the artifacts of jobs that have expired or are long forgotten; returns how many jobs had some."""
    answer = await obstore.list_with_delimiter_async(resources.store.store, prefix="jobs/")
    deleted = 0
    for prefix in answer["common_prefixes"]:
        job_id = prefix.rstrip("/").rpartition("/")[2]
        if await is_over(resources, job_id):
            await resources.store.delete_folder(keys.job_folder(job_id))
            log.info("job %s: expired, its artifacts are deleted", job_id)
            deleted += 1
    return deleted


async def is_over(resources: Resources, job_id: str) -> bool:
    """Whether nobody will ask for a job's artifacts any more. One without a record may have a gateway just before it."""
    record = await resources.ledger.find(job_id)
    if record is not None:
        return record.state is State.EXPIRED
    age = utc_now().timestamp() - seconds_of(job_id)
    return age > resources.settings.job_ttl_seconds + REMEMBERED.total_seconds()


def seconds_of(job_id: str) -> float:
    """When a job was made: the first 48 of an id's 130 bits are milliseconds. Never, for what is no id."""
    number = 0
    for letter in job_id:
        if letter not in ALPHABET:
            return float("inf")
        number = number << 5 | ALPHABET.index(letter)
    return (number >> 80) / 1000
