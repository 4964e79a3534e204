"""Tenants share a lane in turn, through a real docket and a real worker of it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from docket import CurrentDocket, Docket, TaskKey, Worker
from redis.asyncio import Redis

from contracts.schema.images import GenerateJob
from contracts.schema.jobs import JobRecord
from contracts.state import keys
from contracts.state.dockets import JobDocket
from contracts.state.ledger import Ledger, write
from contracts.state.turns import due, pass_on

JOB = GenerateJob(
    prompt="a car",
    model="tiny",
    seed=1,
    guidance_scale=3.0,
    height=64,
    width=64,
    scheduler="DDIMScheduler",
    capture={"self_attention": False},
)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


async def filed(redis: Redis, docket: Docket, tenant: str) -> JobRecord:
    """A job as a gateway files it."""
    record = JobRecord.filed(JOB, timedelta(hours=1), tenant)
    async with redis.pipeline() as pipe:
        write(pipe, record)
        for queue in keys.queues(record.kind, tenant):
            pipe.zadd(queue, {record.id: await redis.incr("test:clock")})
        await pipe.execute()
    await pass_on(redis, docket, record)
    return record


async def test_tenants_have_their_turns_however_many_jobs_each_has(redis: Redis, redis_url: str) -> None:
    order = ""

    async def run_job(job_id: str = TaskKey(), docket: Docket = CurrentDocket()) -> None:  # noqa: B008  # docket's way
        nonlocal order
        record = await Ledger(redis).claim(job_id, max_attempts=3)
        await pass_on(redis, docket, record)
        order += record.tenant

    async with JobDocket(name=keys.DOCKET, url=redis_url) as docket:
        docket.register(run_job, names=[keys.TASK])
        for tenant in "aaaaabbbc":
            await filed(redis, docket, tenant)
        async with Worker(docket, concurrency=1, minimum_check_interval=timedelta(milliseconds=10)) as worker:
            await worker.run_until_finished()
    assert order == "aabbcaaba"


async def test_a_job_that_is_handed_back_is_the_next_of_its_tenant(redis: Redis, redis_url: str) -> None:
    async with JobDocket(name=keys.DOCKET, url=redis_url) as docket:
        docket.register(JobRecord.seen_at, names=[keys.TASK])
        first, second, third = [await filed(redis, docket, "a") for _ in range(3)]
        assert await due(redis, docket.name, "a") == [first.id, second.id]
        await Ledger(redis).claim(first.id, max_attempts=3)
        assert await due(redis, docket.name, "a") == [second.id, third.id]
        await Ledger(redis).hand_back(first.id, 1)
        assert await due(redis, docket.name, "a") == [first.id, second.id]
        await Ledger(redis, "a").forget(first.id)
        assert await due(redis, docket.name, "a") == [second.id, third.id]


async def test_a_job_of_no_tenant_hands_on_nobodys_turn(redis: Redis, redis_url: str) -> None:
    async with JobDocket(name=keys.DOCKET, url=redis_url) as docket:
        docket.register(JobRecord.seen_at, names=[keys.TASK])
        first, *_ = [await filed(redis, docket, "a") for _ in range(4)]
        await Ledger(redis).claim(first.id, max_attempts=3)
        await filed(redis, docket, "")
        assert await redis.xlen(f"{docket.name}:stream") == 2
