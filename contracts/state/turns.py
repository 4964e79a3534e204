"""Turns: how tenants share a lane. A docket is first in, first out, so no more than a few jobs of each tenant are in it.

The others wait in Redis. Whenever a worker claims a job, the next one of its tenant goes to the end of the docket, behind those
of other tenants: each tenant has its turn, however many jobs another has submitted. Jobs without a tenant are in it at once.
"""

from docket import Docket
from redis.asyncio import Redis

from contracts.schema.jobs import JobRecord, utc_now
from contracts.state import keys
from contracts.state.dockets import enqueue
from contracts.state.keys import text

CLOCKS_APART = 10_000  # milliseconds that machines' clocks may differ
AT_A_TIME = 2  # jobs of a tenant in a docket: a second one is there when a worker dies with the first before it has claimed it


async def due(redis: Redis, lane: str, tenant: str) -> list[str]:
    """The jobs of a tenant that should be in a lane's docket."""
    now = utc_now().timestamp() * 1000  # those of later times are tried again then
    found = await redis.zrangebyscore(keys.waiting(lane, tenant), "-inf", now + CLOCKS_APART, start=0, num=AT_A_TIME)
    return [text(each) for each in found]


async def pass_on(redis: Redis, docket: Docket, record: JobRecord) -> None:
    """After a job was claimed, canceled or deleted: add to the docket what is due instead. It ignores what it knows."""
    if record.tenant:
        for job_id in await due(redis, docket.name, record.tenant):
            await enqueue(docket, job_id)
