"""The ledger's state machine, on a real Valkey: nothing is lost, and an outdated worker changes nothing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from contracts import keys
from contracts.errors import Code, Failure, ServiceError
from contracts.fields import Artifact
from contracts.generation import GenerateRequest
from contracts.jobs import JobRecord, Progress, State, new_job_id, utc_now
from contracts.ledger import CancelRequested, Ledger, LostJob, write
from contracts.optimization import OptimizeResult
from contracts.registry import Registry
from tests.contracts.test_registry import new

CURVE = Artifact(name="curve.png", media_type="image/png", size=1, sha256="0" * 64, url="/")
RESULT = OptimizeResult(
    token="cat",
    model="m",
    width=4,
    classes=["cat"],
    epochs=1,
    best_epoch=0,
    best_loss=0.5,
    ended="epochs",
    example_iou=1.0,
    losses=[0.5],
    curve=CURVE,
    curve_json=CURVE,
)


@pytest.fixture
async def ledger(redis_url: str) -> AsyncIterator[Ledger]:
    async with Redis.from_url(redis_url) as redis:
        yield Ledger(redis)


async def queued(ledger: Ledger, life: timedelta = timedelta(hours=1)) -> str:
    now = utc_now()
    record = JobRecord(
        id=new_job_id(),
        kind="generate",
        state=State.QUEUED,
        request=GenerateRequest(prompt="a car", num_inference_steps=3),
        created_at=now,
        expires_at=now + life,
    )
    async with ledger.redis.pipeline(transaction=True) as pipe:
        write(pipe, record)
        pipe.zadd(keys.JOBS, {record.id: 0})
        await pipe.execute()
    return record.id


async def test_a_worker_that_was_believed_dead_changes_nothing(ledger: Ledger) -> None:
    job = await queued(ledger)
    first = await ledger.claim(job, max_attempts=3)
    second = await ledger.claim(job, max_attempts=3)
    assert (first.attempt, second.attempt) == (1, 2)
    with pytest.raises(LostJob):
        await ledger.succeed(job, first.attempt, RESULT)
    with pytest.raises(LostJob):
        await ledger.report(job, first.attempt, Progress(done=1, total=3, unit="step"))
    await ledger.succeed(job, second.attempt, RESULT)
    assert (await ledger.get(job)).state is State.SUCCEEDED


async def test_a_job_that_kills_every_worker_fails_in_the_end(ledger: Ledger) -> None:
    job = await queued(ledger)
    for _ in range(2):
        await ledger.claim(job, max_attempts=2)
    with pytest.raises(LostJob):
        await ledger.claim(job, max_attempts=2)
    record = await ledger.get(job)
    assert record.state is State.FAILED
    assert record.error is not None
    assert record.error.code is Code.WORKER_DIED


async def test_of_many_changes_at_once_none_is_lost(ledger: Ledger) -> None:
    job = await queued(ledger)

    async def add_one() -> None:
        await ledger.change(job, lambda record: record.changed(attempt=record.attempt + 1))

    await asyncio.gather(*(add_one() for _ in range(20)))
    assert (await ledger.get(job)).attempt == 20


async def test_a_waiting_job_is_canceled_at_once_and_a_running_one_at_its_next_report(ledger: Ledger) -> None:
    waiting, running = await queued(ledger), await queued(ledger)
    await ledger.claim(running, max_attempts=3)
    assert (await ledger.cancel(waiting)).state is State.CANCELED
    assert (await ledger.cancel(running)).state is State.RUNNING
    with pytest.raises(CancelRequested):
        await ledger.report(running, 1, Progress(done=1, total=3, unit="step"))
    await ledger.canceled(running, 1)
    with pytest.raises(ServiceError, match="already canceled"):
        await ledger.cancel(running)


async def test_a_job_that_is_handed_back_waits_again_and_first_of_all(ledger: Ledger) -> None:
    job = await queued(ledger)
    await ledger.claim(job, max_attempts=3)
    await ledger.hand_back(job, 1)
    assert (await ledger.get(job)).state is State.QUEUED
    assert await ledger.redis.zscore(keys.QUEUED, job) == 0
    assert (await ledger.claim(job, max_attempts=3)).attempt == 2
    assert await ledger.redis.zscore(keys.QUEUED, job) is None


async def test_a_job_that_is_handed_back_when_its_client_wants_it_to_stop_does_not_wait_again(ledger: Ledger) -> None:
    job = await queued(ledger)
    await ledger.claim(job, max_attempts=3)
    await ledger.cancel(job)
    assert (await ledger.hand_back(job, 1)).state is State.CANCELED
    with pytest.raises(LostJob):
        await ledger.claim(job, max_attempts=3)


@pytest.mark.parametrize("end", [Ledger.succeed, Ledger.canceled])
async def test_a_token_is_there_exactly_when_its_job_has_ended_with_it(ledger: Ledger, end: Any) -> None:
    registry, job = Registry(ledger.redis), await queued(ledger)
    first = await ledger.claim(job, max_attempts=3)
    second = await ledger.claim(job, max_attempts=3)
    with pytest.raises(LostJob):
        await end(ledger, job, first.attempt, RESULT, tokens=[new("cat", "first")])
    assert await registry.find("cat") is None
    record = await end(ledger, job, second.attempt, RESULT, tokens=[new("cat", "second")])
    assert (record.result.token, (await registry.get("cat@1")).id) == ("cat@1", "second")
    with pytest.raises(LostJob):
        await end(ledger, job, second.attempt, RESULT, tokens=[new("cat", "second")])
    assert len(await registry.versions("cat")) == 1


async def test_jobs_that_end_at_once_give_their_tokens_numbers_of_their_own(ledger: Ledger) -> None:
    jobs = [await queued(ledger) for _ in range(8)]
    for job in jobs:
        await ledger.claim(job, max_attempts=3)
    ends = [ledger.succeed(job, 1, RESULT, tokens=[new("cat", job)]) for job in jobs]
    records = await asyncio.gather(*ends)
    assert sorted(record.result.token for record in records) == [f"cat@{number}" for number in range(1, 9)]
    for record in records:
        assert (await Registry(ledger.redis).get(record.result.token)).id == record.id


async def test_a_final_job_expires_and_says_so(ledger: Ledger) -> None:
    job = await queued(ledger, life=timedelta(milliseconds=200))
    await ledger.claim(job, max_attempts=3)
    await ledger.succeed(job, 1, RESULT)
    assert (await ledger.get(job)).state is State.SUCCEEDED
    await asyncio.sleep(0.3)
    record = await ledger.get(job)
    assert record.state is State.EXPIRED
    assert record.result is None


async def test_every_change_is_an_event_in_the_same_order(ledger: Ledger) -> None:
    job = await queued(ledger)
    await ledger.claim(job, max_attempts=3)
    await ledger.report(job, 1, Progress(done=1, total=3, unit="step"))
    await ledger.fail(job, 1, Failure(code=Code.INTERNAL, detail="it broke"))
    events = [fields[b"event"] for _, fields in await ledger.redis.xrange(keys.events(job))]
    assert events == [b"state", b"state", b"progress", b"state"]


async def test_a_forgotten_job_leaves_nothing(ledger: Ledger) -> None:
    job = await queued(ledger)
    await ledger.forget(job)
    assert await ledger.find(job) is None
    assert await ledger.redis.keys("*job*") == []
    with pytest.raises(LostJob):
        await ledger.claim(job, max_attempts=3)
