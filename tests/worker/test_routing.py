"""Several workers on one queue: each job is done by one that has its model, and best by the one that has its trace in memory."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from contracts.schema.jobs import JobRecord, State, utc_now
from contracts.schema.workers import Heartbeat
from contracts.state import keys
from contracts.state.keys import text
from contracts.state.turns import AT_A_TIME
from tests.worker.client import Client, soon
from tests.worker.running import running
from worker import routing
from worker.resources import Resources
from worker.routing import (
    LATEST_LOOK,
    READ_BYTES_PER_SECOND,
    SOONEST_LOOK,
    left_to_others,
    places_left,
    time_without_it,
)
from worker.settings import WorkerSettings


@pytest.fixture
def other(settings: WorkerSettings) -> WorkerSettings:
    """A worker that has the same files under another model's name only."""
    models = {"other": settings.models["tiny"]}
    return settings.model_copy(update={"models": models, "default_model": "other", "worker_name": "second"})


@pytest.fixture
def second(settings: WorkerSettings) -> WorkerSettings:
    """Another worker of the same kind."""
    return settings.model_copy(update={"worker_name": "second"})


async def test_a_job_waits_unclaimed_for_a_worker_that_has_its_model(
    client: Client, settings: WorkerSettings, other: WorkerSettings
) -> None:
    async with running(other):
        job_id = await client.submit(client.generation())
        await soon(lambda: client.redis.zcard(f"{keys.DOCKET}:queue"))  # put back, for later
        await asyncio.sleep(1)
        waiting = await client.ledger.get(job_id)
        assert (waiting.state, waiting.claimed, waiting.attempt) == (State.QUEUED, False, 0)
        async with running(settings):
            ended = await client.ended(job_id)
    assert (ended.state, ended.attempt) == (State.SUCCEEDED, 1)


async def test_a_large_request_is_read_to_know_its_model(client: Client, other: WorkerSettings) -> None:
    job = client.generation()
    record = (await client.record(job)).changed(request=None)
    await client.ledger.change(record.id, lambda _: record)
    await client.store.put(keys.request(record.id), job.model_dump_json().encode())
    async with running(other):
        await client.deliver(record)
        await soon(lambda: client.redis.zcard(f"{keys.DOCKET}:queue"))
        assert not (await client.ledger.get(record.id)).claimed


@pytest.mark.parametrize(("age", "pause"), [(0, SOONEST_LOOK), (20, timedelta(seconds=2)), (1000, LATEST_LOOK)])
async def test_the_longer_a_job_waits_the_longer_it_stays_away(
    client: Client, worker: Resources, age: float, pause: timedelta
) -> None:
    record = await client.record(client.generation().model_copy(update={"model": "elsewhere"}), age=age)
    found = await left_to_others(worker, record.id)
    assert found is not None
    assert abs(found - pause) < timedelta(seconds=1)


async def test_a_job_that_was_claimed_is_not_put_back_for_another(client: Client, worker: Resources) -> None:
    record = await client.record(client.generation().model_copy(update={"model": "elsewhere"}))
    await client.ledger.claim(record.id, max_attempts=3)
    assert await left_to_others(worker, record.id) is None, "its attempt says what is wrong"


async def holder_of(client: Client, record: JobRecord) -> str:
    """Which run of a worker claimed a job."""
    return text(await client.redis.get(keys.holder(record.id)))


async def test_questions_go_to_the_worker_that_has_the_trace_and_to_another_when_that_is_gone(
    client: Client, settings: WorkerSettings, second: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "READ_BYTES_PER_SECOND", 1.0)  # as if the trace were of many gigabytes
    async with AsyncExitStack() as owner:
        one = await owner.enter_async_context(running(settings))
        source = await client.generated(capture={"keep": "queries"})
        await soon(lambda: told(client, one))
        async with running(second) as two:
            for _ in range(4):
                asked = await client.attributed(source)
                assert (asked.state, await holder_of(client, asked)) == (State.SUCCEEDED, one.occupant.holder)
            await owner.aclose()
            asked = await client.attributed(source)
            assert (asked.state, await holder_of(client, asked)) == (State.SUCCEEDED, two.occupant.holder)
        assert (one.scenes.misses, two.scenes.misses) == (0, 1)


async def test_half_of_the_places_are_kept_for_other_tenants(client: Client, worker: Resources) -> None:
    record = (await client.record(await client.attribution("0" * 26))).changed(tenant="anne")
    half = worker.settings.short_jobs // 2
    others = [record.changed(tenant="bert"), record.changed(priority="bulk")] * 3
    assert [places_left(worker, record, [record] * held + others) for held in range(half + 2)] == [*range(half, -2, -1)]
    long = record.changed(priority="normal")
    assert places_left(worker, long, [long] * worker.settings.long_jobs) == AT_A_TIME, "there are none to keep"


def any_scene() -> Any:
    return SimpleNamespace(nbytes=1)


async def told(client: Client, owner: Resources) -> bool:
    """Whether a worker's heartbeat has its traces."""
    data = await client.redis.get(keys.run(owner.occupant.holder))
    return data is not None and Heartbeat.model_validate_json(data).trace_cache_bytes > 0


async def test_a_question_waits_for_nobody_longer_than_reading_takes_nor_for_who_is_paused_full_or_forgot(
    client: Client, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await client.generated(capture={"keep": "queries"})
    worker.scenes.forget_model("tiny")
    await client.redis.set(keys.holder(source.id), "ghost")
    ready = Heartbeat(name="ghost", trace_cache_bytes=2**40)

    async def waits(beat: Heartbeat, *, age: float = 0) -> bool:
        await client.redis.set(keys.run("ghost"), beat.model_dump_json())
        record = await client.record(await client.attribution(source), age=age)
        return await left_to_others(worker, record.id) is not None

    assert not await waits(ready)  # a trace this small is read at once
    monkeypatch.setattr(routing, "READ_BYTES_PER_SECOND", source.result.images[0].trace_bytes / 10)  # it takes ten seconds
    assert await waits(ready)
    here, scene = (source.id, source.attempt, 0), any_scene()
    worker.scenes.warm.keep(here, "tiny", scene)
    assert not await waits(ready), "it is here, too"
    worker.scenes.warm.forget(here)
    assert not await waits(ready, age=11)
    assert not await waits(ready.model_copy(update={"state": "paused"}))
    assert not await waits(ready.model_copy(update={"trace_cache_bytes": 0}))
    job = {"id": "x", "kind": "attribute", "attempt": 1, "since": utc_now()}
    full = Heartbeat.model_validate(ready.model_dump() | {"jobs": [job] * worker.settings.short_jobs})
    assert not await waits(full)
    await client.redis.delete(keys.run("ghost"))
    record = await client.record(await client.attribution(source))
    assert await left_to_others(worker, record.id) is None


@pytest.mark.usefixtures("worker")
async def test_a_replay_takes_as_long_as_its_image_took_and_queries_as_long_as_it_takes_to_read_them(client: Client) -> None:
    replay = await client.generated(num_images=2)
    assert time_without_it(replay, replay.result, 1) == (replay.finished_at - replay.started_at) / 2
    queries = await client.generated(capture={"keep": "queries"})
    size = queries.result.images[0].trace_bytes
    assert time_without_it(queries, queries.result, 0).total_seconds() == pytest.approx(size / READ_BYTES_PER_SECOND, abs=1e-6)
