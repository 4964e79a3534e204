"""The ledger's state machine, on a real Valkey: nothing is lost, and an outdated worker changes nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from contracts.schema.errors import Code, Failure, ServiceError
from contracts.schema.fields import Artifact
from contracts.schema.images import FilledCapture, GenerateJob
from contracts.schema.jobs import JobRecord, Progress, State
from contracts.schema.optimize import OptimizeResult
from contracts.state import keys
from contracts.state.ledger import INNOCENT_ATTEMPTS, Ledger, write
from contracts.state.registry import Registry
from contracts.state.transitions import CancelRequested, LostJob
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


JOB = GenerateJob(
    prompt="a car",
    model="tiny",
    seed=1,
    guidance_scale=1,
    height=64,
    width=64,
    scheduler="DDIMScheduler",
    capture=FilledCapture(self_attention=False),
)


@pytest.fixture
async def ledger(redis_url: str) -> AsyncIterator[Ledger]:
    async with Redis.from_url(redis_url) as redis:
        yield Ledger(redis)


async def queued(ledger: Ledger, life: timedelta = timedelta(hours=1), tenant: str = "") -> str:
    record = JobRecord.filed(JOB, life, tenant)
    async with ledger.redis.pipeline(transaction=True) as pipe:
        write(pipe, record)
        pipe.zadd(keys.JOBS, {record.id: 0})
        await pipe.execute()
    return record.id


STEP = Progress(done=1, total=3, unit="step")


async def begun(ledger: Ledger) -> str:
    """A job that an attempt, the first, runs."""
    job = await queued(ledger)
    await ledger.claim(job, max_attempts=3)
    await ledger.begin(job, 1)
    return job


async def test_a_job_behind_another_on_its_worker_waits_until_it_begins(ledger: Ledger) -> None:
    job = await queued(ledger)
    claimed = await ledger.claim(job, max_attempts=3)
    assert (claimed.state, claimed.claimed, claimed.started_at) == (State.QUEUED, True, None)
    running = await ledger.begin(job, claimed.attempt)
    assert running.state is State.RUNNING
    assert running.started_at is not None
    assert (await ledger.begin(job, claimed.attempt)).started_at == running.started_at
    assert (await ledger.report(job, claimed.attempt, STEP)).started_at == running.started_at


async def test_a_report_begins_a_job(ledger: Ledger) -> None:
    job = await queued(ledger)
    await ledger.claim(job, max_attempts=3)
    record = await ledger.report(job, 1, STEP)
    assert (record.state, record.progress) == (State.RUNNING, STEP)
    assert record.started_at is not None


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELED])
async def test_a_claimed_job_can_end_before_it_begins(ledger: Ledger, state: State) -> None:
    job = await queued(ledger)
    await ledger.claim(job, max_attempts=3)
    ends = {
        State.SUCCEEDED: ledger.succeed(job, 1, RESULT),
        State.FAILED: ledger.fail(job, 1, Failure(code=Code.INTERNAL, detail="it broke")),
        State.CANCELED: ledger.canceled(job, 1),
    }
    record = await ends.pop(state)
    for other in ends.values():
        other.close()
    assert (record.state, record.started_at) == (state, None)
    for late in (ledger.begin(job, 1), ledger.report(job, 1, STEP), ledger.succeed(job, 1, RESULT), ledger.hand_back(job, 1)):
        with pytest.raises(LostJob):
            await late
    assert await ledger.get(job) == record


async def test_a_claimed_job_that_has_not_begun_is_canceled_at_once_and_lost_to_its_worker(ledger: Ledger) -> None:
    job = await queued(ledger)
    await ledger.claim(job, max_attempts=3)
    record = await ledger.cancel(job)
    assert (record.state, record.claimed) == (State.CANCELED, True)
    for late in (ledger.begin(job, 1), ledger.report(job, 1, STEP), ledger.canceled(job, 1)):
        with pytest.raises(LostJob) as caught:
            await late
        assert type(caught.value) is LostJob


async def test_a_worker_that_is_killed_while_its_job_waits_or_runs_leaves_it_to_the_next(ledger: Ledger) -> None:
    waiting, running = await queued(ledger), await begun(ledger)
    await ledger.claim(waiting, max_attempts=3)
    await ledger.report(running, 1, STEP)
    for job in (waiting, running):
        record = await ledger.claim(job, max_attempts=3)
        assert (record.state, record.attempt, record.started_at, record.progress) == (State.QUEUED, 2, None, None)
        for late in (ledger.begin(job, 1), ledger.report(job, 1, STEP), ledger.hand_back(job, 1)):
            with pytest.raises(LostJob):
                await late
        assert (await ledger.begin(job, 2)).state is State.RUNNING


async def test_what_is_handed_back_is_no_longer_held_and_as_if_never_begun(ledger: Ledger) -> None:
    job = await begun(ledger)
    await ledger.report(job, 1, STEP)
    record = await ledger.hand_back(job, 1)
    assert (record.claimed, record.started_at, record.progress) == (False, None, None)
    for late in (ledger.begin(job, 1), ledger.report(job, 1, STEP), ledger.succeed(job, 1, RESULT)):
        with pytest.raises(LostJob):
            await late
    assert (await ledger.get(job)).state is State.QUEUED


async def test_a_job_that_was_to_stop_when_its_worker_died_is_canceled_by_the_next(ledger: Ledger) -> None:
    job = await begun(ledger)
    await ledger.cancel(job)
    with pytest.raises(LostJob):
        await ledger.claim(job, max_attempts=3)
    assert (await ledger.get(job)).state is State.CANCELED


async def test_a_worker_that_was_believed_dead_changes_nothing(ledger: Ledger) -> None:
    job = await queued(ledger)
    first = await ledger.claim(job, max_attempts=3)
    second = await ledger.claim(job, max_attempts=3)
    assert (first.attempt, second.attempt) == (1, 2)
    with pytest.raises(LostJob):
        await ledger.succeed(job, first.attempt, RESULT)
    failure = Failure(code=Code.INTERNAL, detail="it broke")
    for late in (ledger.report(job, 1, STEP), ledger.fail(job, 1, failure), ledger.canceled(job, 1), ledger.hand_back(job, 1)):
        with pytest.raises(LostJob):
            await late
    await ledger.succeed(job, second.attempt, RESULT)
    assert (await ledger.get(job)).state is State.SUCCEEDED


async def test_a_tenants_ledger_neither_finds_nor_changes_a_job_of_another(ledger: Ledger) -> None:
    job = await queued(ledger, tenant="anne")
    own, other = Ledger(ledger.redis, "anne"), Ledger(ledger.redis, "bert")
    assert await other.find(job) is None
    with pytest.raises(ServiceError, match="there is no job"):
        await other.get(job)
    for late in (other.claim(job, max_attempts=3), other.cancel(job)):
        with pytest.raises(LostJob):
            await late
    assert await own.find(job) == await ledger.find(job)
    assert (await own.claim(job, max_attempts=3)).attempt == 1


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
    assert record.error.detail == "2 attempts ended without a result; 2 workers died while this job was on their device"


async def test_a_death_is_charged_only_to_the_job_that_was_on_the_device(ledger: Ledger) -> None:
    guilty, innocent = await queued(ledger), await queued(ledger)
    for number in range(3):
        for job_id in (guilty, innocent):
            assert (await ledger.claim(job_id, max_attempts=3, holder=f"worker-{number}")).deaths == number * (job_id == guilty)
        await ledger.redis.set(keys.on_device(f"worker-{number}"), guilty)
    with pytest.raises(LostJob):
        await ledger.claim(guilty, max_attempts=3, holder="worker-3")
    record = await ledger.get(guilty)
    assert (record.state, record.deaths) == (State.FAILED, 3)
    assert (await ledger.claim(innocent, max_attempts=3, holder="worker-3")).deaths == 0


async def test_a_death_with_nothing_on_the_device_is_charged_to_every_job_that_was_held(ledger: Ledger) -> None:
    job_id = await queued(ledger)
    await ledger.claim(job_id, max_attempts=3, holder="one")
    await ledger.redis.set(keys.on_device("one"), "")
    assert (await ledger.claim(job_id, max_attempts=3, holder="two")).deaths == 1


async def test_a_job_that_is_handed_back_is_not_charged(ledger: Ledger) -> None:
    job_id = await queued(ledger)
    for attempt in (1, 2, 3, 4):
        assert (await ledger.claim(job_id, max_attempts=1, holder="one")).deaths == 0
        await ledger.redis.set(keys.on_device("one"), job_id)
        await ledger.hand_back(job_id, attempt)


async def test_a_job_that_is_never_to_blame_ends_all_the_same(ledger: Ledger) -> None:
    job_id = await queued(ledger)
    await ledger.redis.set(keys.on_device("one"), "another job")
    for _ in range(INNOCENT_ATTEMPTS):
        await ledger.claim(job_id, max_attempts=1, holder="one")
    with pytest.raises(LostJob):
        await ledger.claim(job_id, max_attempts=1, holder="one")
    assert (await ledger.get(job_id)).state is State.FAILED


async def test_of_many_changes_at_once_none_is_lost(ledger: Ledger) -> None:
    job = await queued(ledger)

    async def add_one() -> None:
        await ledger.change(job, lambda record: record.changed(attempt=record.attempt + 1))

    await asyncio.gather(*(add_one() for _ in range(20)))
    assert (await ledger.get(job)).attempt == 20


async def test_a_waiting_job_is_canceled_at_once_and_a_running_one_at_its_next_report(ledger: Ledger) -> None:
    waiting, running = await queued(ledger), await begun(ledger)
    assert (await ledger.cancel(waiting)).state is State.CANCELED
    assert (await ledger.cancel(running)).state is State.RUNNING
    for late in (ledger.report(running, 1, STEP), ledger.begin(running, 1)):
        with pytest.raises(CancelRequested):
            await late
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
    job = await begun(ledger)
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
    for record in (await ledger.get(job), *(await ledger.newest(None, 5))[0]):
        assert (record.id, record.state, record.result) == (job, State.EXPIRED, None)


async def test_a_jobs_time_to_live_begins_with_its_end(ledger: Ledger) -> None:
    job = await queued(ledger)
    await asyncio.sleep(0.05)
    await ledger.claim(job, max_attempts=3)
    record = await ledger.succeed(job, 1, RESULT)
    assert record.finished_at is not None
    assert record.expires_at - record.finished_at == timedelta(hours=1)


@pytest.mark.parametrize("end", [False, True])
async def test_redis_keeps_a_record_and_its_events_for_a_week_beyond_the_jobs_life(ledger: Ledger, *, end: bool) -> None:
    job = await queued(ledger)
    if end:
        await ledger.cancel(job)
    for key in (keys.job(job), keys.events(job)):
        assert await ledger.redis.ttl(key) == pytest.approx(timedelta(days=7, hours=1).total_seconds(), abs=10)


async def test_every_end_of_a_job_is_counted_by_kind_and_state(ledger: Ledger) -> None:
    failed, canceled, succeeded = [await begun(ledger) for _ in range(3)]
    await ledger.fail(failed, 1, Failure(code=Code.INTERNAL, detail="it broke"))
    await ledger.canceled(canceled, 1)
    await ledger.succeed(succeeded, 1, RESULT)
    counted = {b"generate:failed": b"1", b"generate:canceled": b"1", b"generate:succeeded": b"1"}
    assert await ledger.redis.hgetall(keys.COUNTS) == counted


async def test_of_a_long_job_the_latest_events_are_kept(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contracts.state.ledger.MAX_EVENTS", 10)
    job = await begun(ledger)
    for done in range(250):
        await ledger.report(job, 1, Progress(done=done, total=250, unit="step"))
    events = [json.loads(fields[b"data"]) for _, fields in await ledger.redis.xrange(keys.events(job))]
    assert 10 <= len(events) < 250
    assert events[-1]["progress"]["done"] == 249


async def test_a_listing_goes_on_from_page_to_page_and_holds_what_is_asked_for(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contracts.state.ledger.PAGE", 2)
    newest = sorted([await queued(ledger) for _ in range(7)], reverse=True)
    for job in newest[::3]:
        await ledger.cancel(job)

    async def listed(before: str | None, limit: int, **choice: Any) -> list[str]:
        return [record.id for record in (await ledger.newest(before, limit, **choice))[0]]

    assert await listed(None, 9) == newest
    assert await listed(newest[1], 3) == newest[2:5]
    assert await listed(None, 9, state=State.CANCELED) == newest[::3]
    assert await listed(newest[0], 1, state=State.CANCELED, kind="generate") == [newest[3]]
    assert await listed(None, 9, kind="probe") == []


async def test_a_listing_forgets_jobs_whose_records_are_gone(ledger: Ledger) -> None:
    gone, there = await queued(ledger), await queued(ledger)
    await ledger.redis.delete(keys.job(gone))
    assert [record.id for record in (await ledger.newest(None, 5))[0]] == [there]
    assert await ledger.redis.zcard(keys.JOBS) == 1


async def test_every_change_that_can_be_seen_is_an_event_in_the_same_order(ledger: Ledger) -> None:
    job = await queued(ledger)
    await ledger.claim(job, max_attempts=3)
    await ledger.begin(job, 1)
    await ledger.report(job, 1, STEP)
    await ledger.cancel(job)
    await ledger.fail(job, 1, Failure(code=Code.INTERNAL, detail="it broke"))
    events = [fields for _, fields in await ledger.redis.xrange(keys.events(job))]
    assert [event[b"event"] for event in events] == [b"state", b"state", b"progress", b"state"]
    told = [json.loads(event[b"data"]) for event in events]
    assert [each["state"] for each in told] == ["queued", "running", "running", "failed"]
    assert (told[2]["progress"]["done"], told[3]["error"]["code"], told[3]["id"]) == (1, "internal-error", job)


async def test_a_forgotten_job_leaves_nothing(ledger: Ledger) -> None:
    job = await queued(ledger)
    await ledger.redis.zadd(keys.QUEUED, {job: 1})  # as the gateway enqueues it
    await ledger.forget(job)
    assert await ledger.find(job) is None
    assert await ledger.redis.keys("*") == []
    with pytest.raises(LostJob):
        await ledger.claim(job, max_attempts=3)


@asynccontextmanager
async def losing_an_answer(redis_url: str) -> AsyncIterator[Ledger]:
    """A ledger whose connection breaks once: after Valkey has done a transaction, before it has said so."""
    valkey, lost, writers = urlsplit(redis_url), list[bytes](), list[asyncio.StreamWriter]()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(valkey.hostname, valkey.port)
        writers.extend((writer, far_writer))
        while data := await reader.read(1 << 16):
            far_writer.write(data)
            answer = await far_reader.read(1 << 16)
            if b"EXEC" in data and not lost:
                lost.append(answer)
                break
            writer.write(answer)
        writer.close()
        far_writer.close()

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as server:
        async with Redis.from_url(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}") as redis:
            yield Ledger(redis)
        for writer in writers:
            writer.transport.abort()
    assert lost


@pytest.mark.parametrize(
    ("end", "state"), [(Ledger.succeed, State.SUCCEEDED), (Ledger.canceled, State.CANCELED)], ids=["succeeded", "canceled"]
)
async def test_an_end_whose_confirmation_is_lost_is_written_once(
    ledger: Ledger, redis_url: str, end: Callable[..., Any], state: State
) -> None:
    job = await begun(ledger)
    async with losing_an_answer(redis_url) as cut_off:
        record = await end(cut_off, job, 1, RESULT, tokens=[new("cat", job)])
    assert record == await ledger.get(job)
    assert (record.state, record.result) == (state, RESULT.named(["cat@1"]))
    assert [card.version for card in await Registry(ledger.redis).versions("cat")] == [1]
    events = [json.loads(event[b"data"])["state"] for _, event in await ledger.redis.xrange(keys.events(job))]
    assert events.count(state) == 1


async def test_a_failure_whose_confirmation_is_lost_is_written_once(ledger: Ledger, redis_url: str) -> None:
    job = await begun(ledger)
    async with losing_an_answer(redis_url) as cut_off:
        record = await cut_off.fail(job, 1, Failure(code=Code.STORE_UNAVAILABLE, detail="no"))
    assert record == await ledger.get(job)
    assert record.state is State.FAILED


async def test_an_end_that_somebody_else_wrote_meanwhile_is_not_taken_for_ones_own(ledger: Ledger) -> None:
    job = await begun(ledger)
    await ledger.forget(job)
    with pytest.raises(LostJob):
        await ledger.succeed(job, 1, RESULT)
    job = await begun(ledger)
    await ledger.succeed(job, 1, RESULT)
    with pytest.raises(LostJob):
        await ledger.succeed(job, 1, RESULT)
