"""Turns: how tenants share a lane. A docket is first in, first out, so no more than a few jobs of each tenant are in it.

The others wait in Redis. Whenever a worker claims a job (or has done one, where it holds as many of that tenant as it may), the
next one of its tenant goes to the end of the docket, behind those of other tenants: each tenant has its turn, however many jobs
another has submitted. Jobs without a tenant are in it at once.
"""

from docket import Docket
from redis.asyncio import Redis

from contracts.schema.jobs import JobRecord, utc_now
from contracts.state import keys
from contracts.state.dockets import enqueue
from contracts.state.keys import text

CLOCKS_APART = 10_000  # milliseconds that machines' clocks may differ
AT_A_TIME = 2  # jobs of a tenant in a docket: a second one is there when a worker dies with the first before it has claimed it


async def due(redis: Redis, lane: str, tenant: str, most: int = AT_A_TIME) -> list[str]:
    """The jobs of a tenant that should be in a lane's docket."""
    now = utc_now().timestamp() * 1000  # those of later times are tried again then
    found = await redis.zrangebyscore(keys.waiting(lane, tenant), "-inf", now + CLOCKS_APART, start=0, num=most)
    return [text(each) for each in found]


async def admit(redis: Redis, docket: Docket, record: JobRecord) -> None:
    """After a job was filed: add it to the docket, unless it waits for the turn of others of its tenant."""
    ahead = await redis.zrank(keys.waiting(docket.name, record.tenant), record.id) if record.tenant else 0
    if ahead is not None and ahead < AT_A_TIME:
        await enqueue(docket, record.id)


async def pass_on(redis: Redis, docket: Docket, record: JobRecord, most: int = AT_A_TIME) -> None:
    """After a job was claimed, done, canceled or deleted: add to the docket what is due instead. It ignores what it knows."""
    if record.tenant and most > 0:
        for job_id in await due(redis, docket.name, record.tenant, most):
            await enqueue(docket, job_id)
