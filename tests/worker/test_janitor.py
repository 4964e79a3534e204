"""Lost jobs are queued again, expired ones cleaned up, and nothing else is touched."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from docket import Docket

from contracts.schema.jobs import new_job_id, seconds_of, utc_now
from contracts.state import keys
from contracts.state.dockets import unknown_of
from contracts.state.ledger import REMEMBERED
from tests.worker.client import Client
from worker import janitor
from worker.app import opened
from worker.janitor import TURN, clean_forever, delete_expired, old, requeue
from worker.resources import Resources
from worker.settings import WorkerSettings


@pytest.fixture
async def resources(settings: WorkerSettings) -> AsyncIterator[Resources]:
    """What a worker opens, without the worker."""
    async with opened(settings) as resources:
        yield resources


async def known(client: Client, name: str, job_id: str) -> bool:
    return await client.dockets[name].get_execution(job_id) is not None


async def test_a_job_that_waits_for_long_is_added_to_the_docket_of_its_kind_once(client: Client, resources: Resources) -> None:
    long = await client.record(client.generation(), age=6)
    short = await client.record(await client.attribution("0" * 26), age=6)
    young = await client.record(client.generation(), age=3)
    for _ in range(2):
        assert await requeue(resources, client.dockets) == 2
    assert [await known(client, keys.DOCKET, each.id) for each in (long, short, young)] == [True, False, False]
    assert [await known(client, keys.INTERACTIVE, each.id) for each in (long, short, young)] == [False, True, False]
    async with client.dockets[keys.DOCKET].redis() as redis:
        assert await redis.xlen(client.dockets[keys.DOCKET].stream_key) == 1


async def test_a_lost_job_is_found_among_many_that_wait(
    client: Client, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "AT_A_TIME", 2)
    several = [await client.record(client.generation(), age=60) for _ in range(5)]
    assert await requeue(resources, client.dockets) == 5
    lost = several[3].id
    docket = client.dockets[keys.DOCKET]
    await docket.cancel(lost)
    assert await unknown_of(docket, [each.id for each in several]) == [lost]
    asked = []

    async def noted(_: Docket, job_id: str) -> None:
        asked.append(job_id)

    monkeypatch.setattr(janitor, "enqueue", noted)
    assert await requeue(resources, client.dockets) == 5
    assert asked == [lost]


async def test_a_job_that_waits_no_more_is_not_added_and_is_forgotten(client: Client, resources: Resources) -> None:
    over, gone = await client.record(client.generation(), age=60), await client.record(client.generation(), age=60)
    await client.ledger.cancel(over.id)
    await client.ledger.forget(gone.id)
    await client.redis.zadd(keys.QUEUED, {over.id: 0, gone.id: 0})
    await requeue(resources, client.dockets)
    assert await client.redis.zcard(keys.QUEUED) == 0
    assert not await known(client, keys.DOCKET, over.id)
    assert not await known(client, keys.DOCKET, gone.id)


async def test_a_job_that_a_worker_holds_is_left_to_it_and_one_that_was_handed_back_is_added_at_once(
    client: Client, resources: Resources
) -> None:
    record = await client.record(client.generation(), age=60)
    await client.ledger.claim(record.id, max_attempts=9)
    assert await requeue(resources, client.dockets) == 0
    await client.ledger.hand_back(record.id, 1)
    assert await requeue(resources, client.dockets) == 1
    assert await known(client, keys.DOCKET, record.id)


def id_of(age: timedelta) -> str:
    """The id of a job that was filed so long ago."""
    alphabet, number = "0123456789abcdefghjkmnpqrstvwxyz", int((utc_now() - age).timestamp() * 1000) << 80
    return "".join(alphabet[number >> shift & 31] for shift in range(125, -1, -5))


def test_an_id_tells_when_its_job_was_filed() -> None:
    assert abs(seconds_of(new_job_id()) - utc_now().timestamp()) < 5
    assert abs(seconds_of(id_of(timedelta(days=3))) - (utc_now() - timedelta(days=3)).timestamp()) < 5
    assert seconds_of("lost+found") == float("inf")


async def test_artifacts_without_a_record_go_when_no_gateway_can_be_filing_their_job(
    client: Client, resources: Resources
) -> None:
    life = timedelta(seconds=resources.settings.job_ttl_seconds) + REMEMBERED
    ids = [id_of(timedelta(0)), id_of(life - timedelta(hours=1)), id_of(life + timedelta(hours=1)), "lost-and-found"]
    for job_id in ids:
        await client.store.put(keys.upload(job_id), b"")
    assert await delete_expired(resources) == 1
    kept = {key.split("/")[1] for key in await client.stored("jobs")}
    assert kept == {ids[0], ids[1], ids[3]}


async def test_artifacts_of_a_job_go_when_it_has_expired_and_not_while_it_waits_or_has_succeeded(
    client: Client, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.janitor.AT_A_TIME", 1)
    waiting = await client.record(client.generation(), life=1, age=60)
    expired = await client.record(client.generation(), life=1, age=60)
    done = await client.record(client.generation())
    for record in (expired, done):
        await client.ledger.cancel(record.id)
    for record in (waiting, expired, done):
        await client.store.put(keys.upload(record.id), b"")
    await asyncio.sleep(1.1)  # an ended job lives for as long as it was to live
    assert await old(resources, [waiting.id, expired.id, done.id, "unknown"]) == [
        waiting.id,
        expired.id,
        "unknown",
    ]  # done is not read
    assert await delete_expired(resources) == 1
    assert {key.split("/")[1] for key in await client.stored("jobs")} == {waiting.id, done.id}


async def test_nothing_is_left_of_an_expired_job_and_the_next_sweep_finds_nothing(
    client: Client, resources: Resources, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "worker.janitor")
    life = timedelta(seconds=resources.settings.job_ttl_seconds) + REMEMBERED
    for job_id in [id_of(life + timedelta(hours=hours)) for hours in (1, 2, 3)]:
        for name in ("upload", "1/image-0.png", "2/image-0.png"):
            await client.store.put(f"{keys.job_folder(job_id)}/{name}", b"")
    (tmp_path / "store" / "jobs" / id_of(life + timedelta(days=1)) / "1").mkdir(parents=True)
    assert await delete_expired(resources) == 4
    assert list((tmp_path / "store").iterdir()) == []
    assert await delete_expired(resources) == 0
    assert len([record for record in caplog.records if record.name == "worker.janitor"]) == 1


async def looked(resources: Resources, client: Client, seconds: float) -> None:
    """Let the janitor work for a while."""
    task = asyncio.create_task(clean_forever(resources, client.dockets))
    await asyncio.sleep(seconds)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_worker_at_a_time_cleans_the_store_and_every_one_looks_for_lost_jobs(
    client: Client, resources: Resources
) -> None:
    old = id_of(timedelta(seconds=resources.settings.job_ttl_seconds) + REMEMBERED + timedelta(hours=1))
    await client.store.put(keys.upload(old), b"")
    record = await client.record(client.generation(), age=60)
    await client.redis.set(TURN, "another worker")
    await looked(resources, client, 0.3)
    assert await client.stored("jobs") == [keys.upload(old)]
    assert await known(client, keys.DOCKET, record.id)
    await client.redis.delete(TURN)
    await looked(resources, client, 0.3)
    assert await client.stored("jobs") == []
    assert 0 < await client.redis.pttl(TURN) <= 1000 * resources.settings.janitor_seconds


async def test_the_janitor_goes_on_after_a_failure(
    client: Client, resources: Resources, caplog: pytest.LogCaptureFixture
) -> None:
    await client.redis.set(keys.QUEUED, "no sorted set")
    task = asyncio.create_task(clean_forever(resources, client.dockets))
    await asyncio.sleep(0.2)
    assert "the janitor failed" in caplog.text
    await client.redis.delete(keys.QUEUED)
    record = await client.record(client.generation(), age=60)
    await asyncio.sleep(2 * resources.settings.janitor_seconds)
    assert await known(client, keys.DOCKET, record.id)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
