"""The outbox: what clients are to be told of their jobs by webhooks, in Redis until it was told.

A delivery is written in the transaction that changes its job, so that none is lost and none tells of what did not happen. It is
sent at least once: a gateway leases it for a while, and if that gateway dies, another one sends it. What is in here is bounded:
a delivery is small, there are at most two of an attempt at a job, and each is forgotten after a few days.
"""

import json
import secrets
from base64 import b64encode
from collections.abc import Sequence
from datetime import timedelta

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from contracts.schema.jobs import JobRecord, utc_now
from contracts.schema.webhooks import Delivery
from contracts.state import keys
from contracts.state.keys import text

KEPT = timedelta(days=4)  # a delivery, delivered or not
BEFORE_KEPT = timedelta(days=1)  # a secret that was replaced
LEASE = timedelta(seconds=60)  # longer than a try may take
PAUSES = tuple(timedelta(seconds=seconds) for seconds in (5, 60, 300, 1800, 7200, 18_000, 36_000))  # between tries, 18 h in all
MOST_FAILED = 1000  # the newest ones
TOLD = ("id", "kind", "state", "tenant", "created_at", "started_at", "finished_at", "attempt", "error")

# What is due, due again after the lease: who is told that a delivery is theirs deletes it, or says when it is tried again.
TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], now + ARGV[2], id) end
return due
"""


def post(pipe: Pipeline, record: JobRecord) -> None:
    """Queue the commands that put into the outbox that a job has come into a state, if somebody wants to know."""
    if record.webhook is None or record.state not in record.webhook.events:
        return
    now = utc_now()
    told = record.model_dump(mode="json", include=set(TOLD))
    body = json.dumps({"type": f"job.{record.state}", "timestamp": now.isoformat(), "data": told}, separators=(",", ":"))
    delivery = Delivery(
        id=f"{record.id}.{record.attempt}.{record.state}",
        tenant=record.tenant,
        job_id=record.id,
        url=record.webhook.url,
        body=body,
        created_at=now,
    )
    pipe.set(keys.delivery(delivery.id), delivery.model_dump_json(), ex=KEPT)
    pipe.zadd(keys.OUTBOX, {delivery.id: now.timestamp() * 1000})


class Outbox:
    """Deliveries that are due, those that failed for good, and the secrets that they are signed with."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.take_script = redis.register_script(TAKE)

    async def take(self, most: int) -> list[Delivery]:
        """Lease up to so many deliveries that are due."""
        lease = int(LEASE.total_seconds() * 1000)
        ids = [text(each) for each in await self.take_script(keys=[keys.OUTBOX], args=[most, lease])]
        found = await self.read(ids)
        for gone in set(ids) - {delivery.id for delivery in found}:
            await self.redis.zrem(keys.OUTBOX, gone)
        return found

    async def postpone(self, delivery: Delivery, seconds: float) -> None:
        """Let a delivery wait that was not tried."""
        await self.redis.zadd(keys.OUTBOX, {delivery.id: (utc_now().timestamp() + seconds) * 1000}, xx=True)

    async def delivered(self, delivery: Delivery) -> None:
        """It was told; it can still be replayed for a while."""
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.zrem(keys.OUTBOX, delivery.id)
            pipe.zrem(keys.FAILED_DELIVERIES, delivery.id)
            await pipe.execute()

    async def failed(self, delivery: Delivery, problem: str, *, for_good: bool = False) -> Delivery:
        """A try failed: the next one comes later, or none does."""
        tried = delivery.model_copy(update={"tries": delivery.tries + 1, "problem": problem[:200]})
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.set(keys.delivery(tried.id), tried.model_dump_json(), keepttl=True, xx=True)
            if for_good or tried.tries > len(PAUSES):
                pipe.zrem(keys.OUTBOX, tried.id)
                pipe.zadd(keys.FAILED_DELIVERIES, {tried.id: utc_now().timestamp()})
                pipe.zremrangebyrank(keys.FAILED_DELIVERIES, 0, -MOST_FAILED - 1)
            else:
                spread = 0.8 + secrets.randbelow(400) / 1000  # a receiver that comes back does not get all at once
                due = utc_now().timestamp() + PAUSES[tried.tries - 1].total_seconds() * spread
                pipe.zadd(keys.OUTBOX, {tried.id: due * 1000})
            await pipe.execute()
        return tried

    async def replay(self, ids: Sequence[str]) -> list[Delivery]:
        """Send deliveries again, whatever became of them, as if they were new; returns those that there are."""
        found = [each.model_copy(update={"tries": 0, "problem": ""}) for each in await self.read(ids)]
        async with self.redis.pipeline(transaction=True) as pipe:
            for each in found:
                pipe.set(keys.delivery(each.id), each.model_dump_json(), ex=KEPT)
                pipe.zrem(keys.FAILED_DELIVERIES, each.id)
                pipe.zadd(keys.OUTBOX, {each.id: utc_now().timestamp() * 1000})
            await pipe.execute()
        return found

    async def waiting(self) -> list[Delivery]:
        """What is still to be told, the next one first."""
        return await self.read([text(each) for each in await self.redis.zrange(keys.OUTBOX, 0, MOST_FAILED - 1)])

    async def lost(self) -> list[Delivery]:
        """What could not be told, the newest first."""
        return await self.read([text(each) for each in await self.redis.zrevrange(keys.FAILED_DELIVERIES, 0, -1)])

    async def read(self, ids: Sequence[str]) -> list[Delivery]:
        """Those of some deliveries that there still are."""
        found = await self.redis.mget([keys.delivery(each) for each in ids]) if ids else []
        return [Delivery.model_validate_json(each) for each in found if each is not None]

    async def secrets(self, tenant: str) -> list[str]:
        """The secrets that a tenant's deliveries are signed with: its own, made when it is first needed, and the one before."""
        await self.redis.hsetnx(keys.WEBHOOK_SECRETS, tenant, new_secret())
        found = [await self.redis.hget(keys.WEBHOOK_SECRETS, tenant), await self.redis.get(keys.secret_before(tenant))]
        return [text(each) for each in found if each is not None]

    async def rotate(self, tenant: str) -> str:
        """Give a tenant a new secret; deliveries are signed with the old one, too, for a day."""
        old = (await self.secrets(tenant))[0]
        secret = new_secret()
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.WEBHOOK_SECRETS, tenant, secret)
            pipe.set(keys.secret_before(tenant), old, ex=BEFORE_KEPT)
            await pipe.execute()
        return secret


def new_secret() -> str:
    """A secret as Standard Webhooks writes it."""
    return f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"
