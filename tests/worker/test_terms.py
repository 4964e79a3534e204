"""Priorities and deadlines, with a real worker on a tiny model."""

import asyncio
from datetime import timedelta
from typing import Any, get_args

import pytest
from redis.exceptions import RedisError

from contracts.schema import jobs
from contracts.schema.jobs import JobRecord, utc_now
from contracts.state import keys, turns
from tests.worker.client import Client, soon
from tests.worker.jobs import CAT
from tests.worker.running import running
from worker import deadlines
from worker.app import opened
from worker.deadlines import cancel_late
from worker.device import Priority, turn
from worker.settings import WorkerSettings


async def filed(client: Client, job: jobs.AnyJob, **terms: object) -> JobRecord:
    """A job that waits on some terms."""
    record = (await client.record(job)).model_copy(update=terms)
    await client.redis.set(keys.job(record.id), record.model_dump_json())
    await client.redis.zrem(keys.QUEUED, record.id)
    for queue in keys.queues(record.kind, "", record.priority):
        await client.redis.zadd(queue, {record.id: record.created_at.timestamp() * 1000})
    if record.deadline:
        await client.redis.zadd(keys.DEADLINES, {record.id: record.deadline.timestamp() * 1000})
    await client.deliver(record)
    return record


def test_turns_go_by_priority_then_by_work() -> None:
    order = [turn(priority, work) for priority in get_args(jobs.Priority) for work in Priority]
    assert order == sorted(set(order))


async def test_jobs_end_in_the_order_of_their_priorities(client: Client, settings: WorkerSettings) -> None:
    terms = [("bulk", 2), ("normal", 2), ("interactive", 2)]
    records = [await filed(client, client.generation(seed=n), priority=name) for name, count in terms for n in range(count)]
    async with running(settings.model_copy(update={"long_jobs": 2})):
        ended = [await client.ended(record.id) for record in records]
    begun = [record.priority for record in sorted(ended, key=lambda record: record.started_at)]
    over = [record.priority for record in sorted(ended, key=lambda record: record.finished_at)]
    # The device may have taken any one before the others were claimed. A normal job that has begun lets interactive ones in.
    assert "bulk" not in begun[1:4], begun
    assert over[:3].count("interactive") == 2, over


@pytest.mark.usefixtures("worker")
async def test_a_question_of_low_priority_lets_others_in_and_is_answered(client: Client) -> None:
    source = await client.generated()
    record = await client.ended((await filed(client, await client.attribution(source, CAT), priority="bulk")).id)
    assert (record.state, record.priority) == ("succeeded", "bulk")


@pytest.mark.usefixtures("worker")
async def test_a_job_that_runs_past_its_deadline_is_stopped(client: Client) -> None:
    record = await filed(client, client.long_generation(), deadline=utc_now() + timedelta(seconds=3))
    ended = await client.ended(record.id)
    assert (ended.state, ended.error.code) == ("canceled", "deadline-passed")
    assert await client.stored(keys.job_folder(record.id)) == []
    assert (await client.events(record.id))[-1]["error"]["code"] == "deadline-passed"


@pytest.mark.usefixtures("worker")
async def test_a_job_that_waits_past_its_deadline_never_begins(client: Client) -> None:
    first = await filed(client, client.long_generation())
    await client.when(first.id, lambda record: record.state == "running")
    others = [await filed(client, client.generation(), deadline=utc_now() + timedelta(seconds=1)) for _ in range(4)]
    for record in others:  # claimed by the worker, and not
        ended = await client.ended(record.id)
        assert (ended.state, ended.started_at, ended.error.code) == ("canceled", None, "deadline-passed")
    assert (await client.ledger.get(first.id)).state == "running"
    await client.cancel(first.id)

    async def forgotten() -> bool:
        return not await client.redis.zcard(keys.DEADLINES)

    await soon(forgotten)


async def test_who_is_late_leaves_the_docket_whatever_became_of_others(
    client: Client, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.redis.zadd(keys.DEADLINES, {"0" * 26: 1})  # of a job that is gone
    late, early = [
        await filed(client, client.generation(), deadline=utc_now() + timedelta(seconds=seconds)) for seconds in (-1, 60)
    ]
    docket, passed = client.dockets[keys.DOCKET], list[tuple[object, ...]]()

    async def pass_on(_: object, *what: object) -> None:
        passed.append(what)

    monkeypatch.setattr(turns, "pass_on", pass_on)
    async with opened(settings) as resources:
        await cancel_late(resources, client.dockets)
    canceled = await client.ledger.get(late.id)
    assert (canceled.state, (await client.ledger.get(early.id)).state) == ("canceled", "queued")
    assert passed == [(docket, canceled)], "its tenant has the turn"
    assert [each.decode() for each in await client.redis.zrange(keys.DEADLINES, 0, -1)] == [early.id]
    assert await client.redis.xlen(docket.stream_key) == 1


async def test_deadlines_are_watched_on_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[BaseException] = [asyncio.CancelledError(), RedisError("away")]

    async def failing(*_: object) -> None:
        raise looks.pop()

    monkeypatch.setattr(deadlines, "cancel_late", failing)
    monkeypatch.setattr(deadlines, "LOOK_SECONDS", 0)
    resources: Any = None
    with pytest.raises(asyncio.CancelledError):
        await deadlines.watch_deadlines(resources, {})
    assert looks == []


async def test_a_job_that_ended_in_time_keeps_its_result(client: Client, settings: WorkerSettings) -> None:
    async with running(settings):
        record = await filed(client, client.generation(), deadline=utc_now() + timedelta(seconds=60))
        assert (await client.ended(record.id)).state == "succeeded"
