"""What a tenant has used: the time of its jobs on a device, and the bytes that they keep, counted once and given back once."""

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from contracts.schema.estimates import Estimate
from contracts.schema.jobs import JobRecord, State
from contracts.state import keys, paces, rates
from contracts.state.ledger import finished, write
from contracts.state.paces import Paces, learn
from contracts.state.rates import Rates
from contracts.state.usage import COUNTED_FOR, give_back
from tests.contracts.test_ledger import CURVE, JOB, RESULT

SIZE = 1000


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


def ended(tenant: str = "anne", *, began: bool = True) -> JobRecord:
    """A job that has waited for an hour, run for half a minute, and keeps one file under two names of its result."""
    curve = CURVE.model_copy(update={"size": SIZE})
    result = RESULT.model_copy(update={"curve": curve, "curve_json": curve})
    record = finished(JobRecord.filed(JOB, timedelta(hours=1), tenant), State.SUCCEEDED, result=result)
    begun = record.finished_at - timedelta(seconds=30)
    return record.changed(started_at=begun if began else None, created_at=begun - timedelta(hours=1))


async def end(redis: Redis, *records: JobRecord) -> None:
    async with redis.pipeline(transaction=True) as pipe:
        for record in records:
            write(pipe, record)
        await pipe.execute()


async def test_a_day_has_the_seconds_between_the_begin_and_the_end_of_its_jobs(redis: Redis) -> None:
    record = ended()
    await end(redis, record, ended(), ended(began=False))
    spent = keys.device_seconds("anne", record.finished_at.date())
    assert float(await redis.get(spent)) == pytest.approx(60)
    assert await redis.ttl(spent) == pytest.approx(COUNTED_FOR.total_seconds(), abs=10)
    assert timedelta(days=1) < COUNTED_FOR < timedelta(days=7)


async def test_bytes_are_given_back_once_and_those_of_an_expired_job_by_who_finds_it_expired(redis: Redis) -> None:
    first, second = ended(), ended()
    await end(redis, first, second)
    assert int(await redis.get(keys.bytes_kept("anne"))) == 2 * SIZE
    for _ in range(2):
        await give_back(redis, first)
    assert int(await redis.get(keys.bytes_kept("anne"))) == SIZE
    ((member, until),) = await redis.zrange(keys.kept("anne"), 0, -1, withscores=True)
    assert member.decode() == f"{second.id}:{SIZE}"
    assert until == pytest.approx(second.expires_at.timestamp() * 1000)


async def test_nothing_is_counted_without_a_tenant(redis: Redis) -> None:
    await end(redis, ended(""))
    await give_back(redis, ended(""))
    assert [key async for key in redis.scan_iter("ovam:*") if b"kept" in key or b"seconds" in key] == []


async def test_a_pace_is_learned_though_the_request_was_too_large_for_the_record(redis: Redis) -> None:
    estimate = Estimate(memory_bytes=0, kept_bytes=0, work=15)
    async with redis.pipeline() as pipe:
        learn(pipe, ended().changed(request=None, estimate=estimate))
        learn(pipe, ended().changed(estimate=None))
        learn(pipe, ended().changed(estimate=estimate, state=State.FAILED))
        assert len(await pipe.execute()) == 1
    assert await Paces(redis).of(ended().kind, RESULT.model) == pytest.approx(2)


@pytest.mark.parametrize(
    ("module", "read", "key", "field"),
    [
        (paces, lambda redis: partial(Paces(redis).of, "probe", "tiny"), keys.PACES, paces.field_of("probe", "tiny")),
        (rates, lambda redis: partial(Rates(redis).seconds, keys.DOCKET), keys.RATES, f"{keys.DOCKET}:seconds"),
    ],
    ids=["paces", "rates"],
)
async def test_numbers_that_every_submission_asks_for_are_read_now_and_then(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, module: Any, read: Any, key: str, field: str
) -> None:
    assert module.FRESH_SECONDS == 2
    asked = read(redis)
    assert await asked() is None
    await redis.hset(key, field, "3")
    assert await asked() is None
    monkeypatch.setattr(module, "FRESH_SECONDS", -1)
    assert await asked() == 3
