"""A job whose store failed is tried again later, and not for ever."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from contracts.schema.errors import Code, Failure
from contracts.schema.jobs import JobRecord, State, utc_now
from contracts.state import dead, keys
from contracts.state.ledger import Ledger, write
from contracts.state.transitions import LostJob
from contracts.state.turns import due
from tests.contracts.test_ledger import JOB

AWAY = Failure(code=Code.STORE_UNAVAILABLE, detail="the store is away")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


async def filed(redis: Redis, tenant: str = "") -> JobRecord:
    record = JobRecord.filed(JOB, timedelta(hours=1), tenant)
    async with redis.pipeline() as pipe:
        write(pipe, record)
        await pipe.execute()
    return record


async def waited(redis: Redis, record: JobRecord) -> None:
    """Let the time pass after which a job is tried again."""
    await redis.set(keys.job(record.id), record.changed(retry_at=utc_now()).model_dump_json())


async def test_it_waits_longer_each_time_and_fails_in_the_end(redis: Redis) -> None:
    ledger, record = Ledger(redis), await filed(redis)
    pauses = []
    for _ in range(2):
        attempt = (await ledger.claim(record.id, max_attempts=3)).attempt
        record = await ledger.put_back(record.id, attempt, AWAY, max_attempts=3)
        assert (record.state, record.claimed, record.error) == (State.QUEUED, False, None)
        pauses.append(round((record.retry_at - utc_now()).total_seconds()))
        assert await redis.zscore(keys.QUEUED, record.id) == pytest.approx(record.retry_at.timestamp() * 1000, abs=1)
        with pytest.raises(LostJob):
            await ledger.claim(record.id, max_attempts=3)  # too early
        await waited(redis, record)
    attempt = (await ledger.claim(record.id, max_attempts=3)).attempt
    record = await ledger.put_back(record.id, attempt, AWAY, max_attempts=3)
    assert pauses == [30, 120]
    assert (record.state, record.error, record.tries) == (State.FAILED, AWAY, 3)
    assert [each.id for each in await dead.dead(redis)] == [record.id]


async def test_a_dead_job_whose_record_is_gone_is_forgotten(redis: Redis) -> None:
    await redis.zadd(keys.DEAD, {"gone": 1})
    assert await dead.dead(redis) == []
    assert await redis.zcard(keys.DEAD) == 0


async def test_deaths_and_failures_of_the_store_count_together(redis: Redis) -> None:
    ledger, record = Ledger(redis), await filed(redis)
    await ledger.claim(record.id, max_attempts=3)
    attempt = (await ledger.claim(record.id, max_attempts=3)).attempt  # one died
    record = await ledger.put_back(record.id, attempt, AWAY, max_attempts=2)
    assert (record.state, record.deaths, record.tries) == (State.FAILED, 1, 1)


async def test_a_job_that_was_canceled_is_not_tried_again(redis: Redis) -> None:
    ledger, record = Ledger(redis), await filed(redis)
    attempt = (await ledger.claim(record.id, max_attempts=3)).attempt
    await ledger.begin(record.id, attempt)
    await ledger.cancel(record.id)
    assert (await ledger.put_back(record.id, attempt, AWAY, max_attempts=3)).state is State.CANCELED


async def test_one_that_waits_for_its_time_takes_no_turn_of_its_tenant(redis: Redis) -> None:
    ledger, record = Ledger(redis), await filed(redis, "a")
    attempt = (await ledger.claim(record.id, max_attempts=3)).attempt
    await ledger.put_back(record.id, attempt, AWAY, max_attempts=3)
    assert await redis.zcard(keys.waiting(keys.DOCKET, "a")) == 1
    assert await due(redis, keys.DOCKET, "a") == []


async def test_a_worker_that_had_lost_redis_and_claims_a_job_again_has_not_died(redis: Redis) -> None:
    ledger, record = Ledger(redis), await filed(redis)
    await ledger.claim(record.id, max_attempts=3, holder="one")
    await redis.set(keys.on_device("one"), record.id)
    assert (await ledger.claim(record.id, max_attempts=3, holder="one")).deaths == 0
    assert (await ledger.claim(record.id, max_attempts=3, holder="two")).deaths == 1
