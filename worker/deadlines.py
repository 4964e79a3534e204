"""Deadlines: a job that waits when its own passes is canceled. One that runs is stopped by its attempt, which looks as well."""

import asyncio
import logging
from collections.abc import Mapping

from docket import Docket

from contracts.schema.jobs import utc_now
from contracts.state import keys, turns
from contracts.state.keys import text
from contracts.state.transitions import LostJob
from worker.resources import Resources

LOOK_SECONDS = 1.0
AT_ONCE = 100

log = logging.getLogger(__name__)


async def watch_deadlines(resources: Resources, dockets: Mapping[str, Docket]) -> None:
    """Cancel what is late, again and again; every worker does, and what one has canceled another leaves alone."""
    while True:
        try:
            await cancel_late(resources, dockets)
        except Exception:
            log.exception("deadlines cannot be watched")
        await asyncio.sleep(LOOK_SECONDS)


async def cancel_late(resources: Resources, dockets: Mapping[str, Docket]) -> None:
    """Cancel waiting jobs whose deadline has passed, and take them from their dockets."""
    now = utc_now().timestamp() * 1000
    late = await resources.redis.zrangebyscore(keys.DEADLINES, "-inf", now, start=0, num=AT_ONCE)
    for job_id in map(text, late):
        try:
            record = await resources.ledger.cancel_late(job_id)
        except LostJob:
            await resources.redis.zrem(keys.DEADLINES, job_id)
            continue
        if record.state.final and not record.claimed:
            docket = dockets[keys.docket_of(record.kind, record.priority)]
            await docket.cancel(job_id)
            await turns.pass_on(resources.redis, docket, record)
