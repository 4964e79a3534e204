"""A store that fails: nothing computed is lost while it can be kept, and no further job is computed in vain."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from obstore.store import LocalStore

from contracts.schema.jobs import State
from contracts.state.dockets import JobDocket
from contracts.state.store import ArtifactStore
from tests.worker.client import Client
from tests.worker.running import running
from worker import intake
from worker.app import opened
from worker.settings import WorkerSettings
from worker.tasks import docket_worker, job_task

LANES = (("long", 2), ("short", 4))


class Fragile:
    """A local store that can be broken and mended: its folder becomes a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(LocalStore(self.folder))

    def fail(self) -> None:
        self.folder.rename(self.folder.with_name("aside"))
        self.folder.touch()

    def mend(self) -> None:
        self.folder.unlink()
        self.folder.with_name("aside").rename(self.folder)


@pytest.fixture
def fragile(tmp_path: Path) -> Fragile:
    return Fragile(tmp_path / "fragile")


async def test_a_result_waits_for_a_store_that_fails_for_a_while(
    client: Client, settings: WorkerSettings, fragile: Fragile
) -> None:
    async with opened(settings) as resources:
        record = await client.record(client.generation())
        fragile.fail()
        task = asyncio.create_task(job_task(replace(resources, store=fragile.store), set())(record.id))
        seen = await client.when(record.id, lambda seen: seen.progress is not None and seen.progress.done == 3)
        await asyncio.sleep(0.5)
        assert not task.done()
        fragile.mend()
        await task
        record = await client.ledger.get(record.id)
    assert (record.state, record.attempt, seen.attempt) == (State.SUCCEEDED, 1, 1)
    assert (fragile.folder / "jobs" / record.id / "1" / "manifest.json").exists()


async def test_a_job_that_waits_for_the_store_can_be_canceled(client: Client, settings: WorkerSettings, fragile: Fragile) -> None:
    async with opened(settings) as resources:
        record = await client.record(client.generation())
        fragile.fail()
        task = asyncio.create_task(job_task(replace(resources, store=fragile.store), set())(record.id))
        await client.when(record.id, lambda seen: seen.progress is not None and seen.progress.done == 3)
        await client.cancel(record.id)
        await asyncio.wait_for(task, 20)
    assert (await client.ledger.get(record.id)).state is State.CANCELED


def test_a_worker_that_is_about_to_stop_takes_no_job_again_whatever_its_store_does() -> None:
    takers = [docket_worker(JobDocket(name, "memory://"), concurrency, WorkerSettings()) for name, concurrency in LANES]
    each = intake.Intake(takers)

    def taken() -> list[int]:
        return [taker.concurrency for taker in takers]

    assert (taken(), each.state) == ([0, 0], "paused")
    each.resume()
    assert (taken(), each.state) == ([2, 4], "ready")
    each.pause()
    assert (taken(), each.state) == ([0, 0], "paused")
    each.resume()
    each.end()
    assert (taken(), each.state) == ([0, 0], "stopping")
    each.resume()
    assert (taken(), each.state) == ([0, 0], "stopping")


async def test_that_a_store_takes_no_writes_is_logged_once_from_the_start(
    fragile: Fragile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    each, states = intake.Intake([]), list[str]()
    meanwhile = [lambda: None, fragile.mend, lambda: None, fragile.fail]

    async def paused(_: float) -> None:
        states.append(each.state)
        if not meanwhile:
            raise asyncio.CancelledError
        meanwhile.pop(0)()

    fragile.fail()
    monkeypatch.setattr(intake, "asyncio", SimpleNamespace(sleep=paused))
    with caplog.at_level("INFO", "worker.intake"), pytest.raises(asyncio.CancelledError):
        await intake.watch_store(fragile.store, each)
    assert states == ["paused", "paused", "ready", "ready", "paused"]
    assert [record.levelname for record in caplog.records if record.name == "worker.intake"] == ["ERROR", "INFO", "ERROR"]


async def test_a_worker_whose_store_takes_no_writes_takes_no_jobs(
    client: Client, settings: WorkerSettings, fragile: Fragile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LOOK_SECONDS", 0.1)
    fragile.fail()
    async with running(settings, store=fragile.store):
        job_id = await client.submit(client.generation())
        await asyncio.sleep(1)
        assert not (await client.ledger.get(job_id)).claimed
        fragile.mend()
        assert (await client.ended(job_id)).state is State.SUCCEEDED
