"""A worker whose Redis is named by Sentinels goes on with the next master."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.schema.jobs import State
from tests.sentinels import Sentinels, sentinels
from tests.worker.client import Client
from tests.worker.running import running
from worker.settings import WorkerSettings


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Sentinels]:
    with sentinels(tmp_path / "sentinels") as found:
        yield found


async def test_jobs_survive_the_master_and_more_are_taken(watched: Sentinels, settings: WorkerSettings) -> None:
    settings = settings.model_copy(update={"redis_url": watched.url})
    async with Client.connected(settings) as client, running(settings):
        before = await client.generated()
        waits = await client.record(client.generation())  # no docket knows it yet: the janitor delivers it
        await client.redis.execute_command("WAIT", 1, 5000)
        await asyncio.to_thread(watched.kill_master)
        assert (await client.ended(waits.id)).state is State.SUCCEEDED
        assert await client.ledger.get(before.id) == before
        assert (await client.generated()).attempt == 1
