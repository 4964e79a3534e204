"""A job behind another on the same worker is queued until the device does its work."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
from redis.asyncio import Redis

from contracts.schema.jobs import JobRecord, Progress, State
from contracts.schema.previews import Preview
from contracts.state import keys
from contracts.state.ledger import Ledger
from contracts.state.transitions import CancelRequested, LostJob
from tests.worker.client import Client, soon
from tests.worker.running import running
from worker.attempts import Attempt
from worker.device import Priority
from worker.resources import Resources
from worker.settings import WorkerSettings


@asynccontextmanager
async def occupied(resources: Resources) -> AsyncIterator[None]:
    """Keep the device busy inside the `with`, with work that lets nothing in between."""
    release = threading.Event()
    outcome = resources.gate.submit(Priority.INTERACTIVE, lambda: release.wait(60))
    await asyncio.sleep(0)
    try:
        yield
    finally:
        release.set()
        await asyncio.wrap_future(outcome)


async def claimed(client: Client, job_id: str) -> JobRecord:
    return await client.when(job_id, lambda record: record.attempt > 0)


async def states(client: Client, job_id: str) -> list[str]:
    return list(dict.fromkeys(event["state"] for event in await client.events(job_id)))


@pytest.mark.parametrize("kind", ["generate", "attribute", "probe", "optimize"])
async def test_a_job_of_any_kind_is_queued_until_the_device_is_free_and_then_runs(
    client: Client, worker: Resources, kind: str
) -> None:
    source = await client.generated()
    job = {
        "generate": client.generation,
        "attribute": lambda: client.attribution(source),
        "probe": lambda: client.probing(source, words=["cat"], prompt="a cat"),
        "optimize": lambda: client.optimization([client.example(source)]),
    }[kind]()
    async with occupied(worker):
        job_id = await client.submit(await job if asyncio.iscoroutine(job) else job)
        await claimed(client, job_id)
        await asyncio.sleep(0.6)  # longer than it takes to look for a cancellation
        record = await client.ledger.get(job_id)
        assert (record.state, record.started_at, record.progress) == (State.QUEUED, None, None)
        assert await states(client, job_id) == ["queued"]
    record = await client.ended(job_id)
    assert record.state is State.SUCCEEDED, record.error
    assert isinstance(record.started_at, datetime)
    assert await states(client, job_id) == ["queued", "running", "succeeded"]


@pytest.mark.usefixtures("worker")
async def test_of_two_long_jobs_only_the_one_that_has_the_device_runs(client: Client) -> None:
    first = await client.submit(client.long_generation())
    await client.when(first, lambda record: record.progress is not None)
    second = await client.submit(client.long_generation())
    await claimed(client, second)
    await asyncio.sleep(0.3)
    assert (await client.ledger.get(first)).state is State.RUNNING
    assert (await client.ledger.get(second)).state is State.QUEUED
    await client.cancel(first)
    await client.when(second, lambda record: record.progress is not None)
    assert (await client.ledger.get(second)).state is State.RUNNING
    await client.cancel(second)
    assert (await client.ended(second)).state is State.CANCELED


@pytest.mark.parametrize("by_docket", [True, False], ids=["as the gateway does", "in the ledger alone"])
async def test_a_job_canceled_while_it_waits_for_the_device_ends_at_once_and_is_never_begun(
    client: Client, worker: Resources, *, by_docket: bool
) -> None:
    async with occupied(worker):
        job_id = await client.submit(client.long_generation())
        await claimed(client, job_id)
        record = await (client.cancel if by_docket else client.ledger.cancel)(job_id)
        assert (record.state, record.started_at) == (State.CANCELED, None)
        await soon(lambda: idle(client))
    await client.generated()
    assert await states(client, job_id) == ["queued", "canceled"]
    assert await client.stored(keys.job_folder(job_id)) == []


async def test_a_job_deleted_while_it_waits_for_the_device_is_never_begun(client: Client, worker: Resources) -> None:
    async with occupied(worker):
        job_id = await client.submit(client.long_generation())
        record = await claimed(client, job_id)
        await client.dockets[keys.docket_of(record.kind, record.priority)].cancel(job_id)
        await client.ledger.forget(job_id)
        await soon(lambda: idle(client))
    await client.generated()
    assert await client.ledger.find(job_id) is None


async def test_a_job_dropped_at_the_moment_when_it_begins_stops_at_its_next_step(client: Client, worker: Resources) -> None:
    record = await client.ledger.claim((await client.record(client.generation())).id, max_attempts=9)
    attempt = Attempt(record, client.ledger, worker.gate, worker.occupant)
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(20)
        attempt.breathe()
        raise AssertionError("it went on")

    waiting = asyncio.create_task(attempt.on_device(Priority.GENERATE, work))
    await asyncio.to_thread(begun.wait, 20)
    inner = attempt._outcome
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()
    with pytest.raises(LostJob):
        await asyncio.wrap_future(inner)


async def test_a_job_that_waits_for_the_device_is_handed_back_when_its_worker_stops(
    client: Client, settings: WorkerSettings
) -> None:
    async with running(settings):
        first = await client.submit(client.long_generation())
        await client.when(first, lambda record: record.progress is not None)
        second = await client.submit(client.generation())
        await claimed(client, second)
    for job_id in (first, second):
        record = await client.ledger.get(job_id)
        assert (record.state, record.claimed, record.attempt, record.started_at) == (State.QUEUED, False, 1, None)
    assert await states(client, second) == ["queued"]
    await client.cancel(first)
    async with running(settings):
        record = await client.ended(second)
    assert (record.state, record.attempt) == (State.SUCCEEDED, 2)


async def test_work_that_was_stopped_before_it_asked_for_the_device_is_never_begun(client: Client, worker: Resources) -> None:
    record = await client.ledger.claim((await client.record(client.generation())).id, max_attempts=9)
    attempt, begun = Attempt(record, client.ledger, worker.gate, worker.occupant), threading.Event()
    attempt.stop(LostJob(record.id))
    with pytest.raises(LostJob):
        await attempt.on_device(Priority.GENERATE, begun.set)
    await asyncio.wrap_future(worker.gate.submit(Priority.GENERATE, lambda: None))
    assert not begun.is_set()


async def test_the_beginning_is_reported_before_the_end_however_short_the_work_is(client: Client, worker: Resources) -> None:
    record = await client.ledger.claim((await client.record(client.generation())).id, max_attempts=9)
    attempt = Attempt(record, client.ledger, worker.gate, worker.occupant)
    async with attempt.followed():
        await attempt.on_device(Priority.GENERATE, lambda: None)
    found = await client.ledger.get(record.id)
    assert found.state is State.RUNNING
    assert found.started_at is not None


async def test_a_look_finds_that_the_job_was_deleted(client: Client, worker: Resources) -> None:
    record = await client.record(client.generation())
    attempt = Attempt(record, worker.ledger, worker.gate, worker.occupant)
    await client.redis.delete(keys.job(record.id))
    with pytest.raises(LostJob):
        await attempt._look()


async def test_only_the_attempt_that_holds_a_job_begins_it(client: Client, worker: Resources) -> None:
    job_id = (await client.record(client.generation())).id
    old = Attempt(await client.ledger.claim(job_id, max_attempts=9), client.ledger, worker.gate, worker.occupant)
    await client.ledger.claim(job_id, max_attempts=9)
    with pytest.raises(LostJob):
        async with old.followed():
            await old.on_device(Priority.GENERATE, lambda: None)
    record = await client.ledger.get(job_id)
    assert (record.state, record.attempt) == (State.QUEUED, 2)


async def test_of_several_reports_at_once_the_last_one_counts_and_none_is_lost_at_the_end(
    client: Client, worker: Resources
) -> None:
    record = await client.ledger.claim((await client.record(client.generation())).id, max_attempts=9)
    attempt = Attempt(record, client.ledger, worker.gate, worker.occupant)
    async with attempt.followed():
        for done in range(1, 50):
            attempt.report(Progress(done=done, total=50, unit="step"))
    assert (await client.ledger.get(record.id)).progress.done == 49


async def test_of_the_previews_of_each_image_the_latest_is_kept(client: Client, worker: Resources) -> None:
    record = await client.ledger.claim((await client.record(client.generation())).id, max_attempts=9)
    attempt = Attempt(record, client.ledger, worker.gate, worker.occupant)

    async def shown() -> list[tuple[int, int]]:
        reported = [event["progress"] for event in await client.events(record.id) if event["progress"]]
        return [(each["preview"]["image"], each["preview"]["evaluation"]) for each in reported if each["preview"]]

    async with attempt.followed():
        for done, image in enumerate((0, 1, 0), start=1):
            preview = Preview(image=image, seed=image, evaluation=done, evaluations=3, picture=None, masks=[])
            attempt.report(Progress(done=done, total=3, unit="step", preview=preview))
            while (image, done) not in await shown():
                await asyncio.sleep(0.01)
    assert await shown() == [(1, 2), (0, 3)]


async def test_progress_that_cannot_be_reported_is_logged_and_does_not_stop_the_work(
    client: Client, worker: Resources, caplog: pytest.LogCaptureFixture
) -> None:
    record = await client.ledger.claim((await client.record(client.generation())).id, max_attempts=9)
    async with Redis(port=1) as nowhere:
        attempt = Attempt(record, Ledger(nowhere), worker.gate, worker.occupant)
        async with attempt.followed():
            assert await attempt.on_device(Priority.GENERATE, lambda: 7) == 7
    assert "progress cannot be reported" in caplog.text


async def test_a_request_to_cancel_reaches_work_that_reports_nothing(client: Client, worker: Resources) -> None:
    record = await client.ledger.claim((await client.record(client.generation())).id, max_attempts=9)
    attempt = Attempt(record, client.ledger, worker.gate, worker.occupant)
    async with attempt.followed():
        attempt.begin()
        await client.when(record.id, lambda seen: seen.state is State.RUNNING)
        await client.ledger.cancel(record.id)
        attempt.keeps = True
        await soon(lambda: asyncio.sleep(0, attempt.canceled))
        attempt.keeps = False
        with pytest.raises(CancelRequested):
            attempt.check()
        attempt.keeps = True


async def idle(client: Client) -> bool:
    """Whether no docket has a message that a worker holds."""
    docket = client.dockets[keys.DOCKET]
    async with docket.redis() as redis:
        return (await redis.xpending(docket.stream_key, docket.worker_group_name))["pending"] == 0
