"""Workers with different models on one queue: each job is done by one that has its model."""

import asyncio
from datetime import timedelta

import pytest

from contracts.schema.jobs import JobRecord, State, utc_now
from tests.worker.client import Client, soon
from tests.worker.running import running
from worker.settings import WorkerSettings
from worker.tasks import LATEST_LOOK, SOONEST_LOOK, until_next_look


@pytest.fixture
def other(settings: WorkerSettings) -> WorkerSettings:
    """A worker that has the same files under another model's name only."""
    models = {"other": settings.models["tiny"]}
    return settings.model_copy(update={"models": models, "default_model": "other", "worker_name": "second"})


async def test_a_job_waits_unclaimed_for_a_worker_that_has_its_model(
    client: Client, settings: WorkerSettings, other: WorkerSettings
) -> None:
    async with running(other):
        job_id = await client.submit(client.generation())
        await soon(lambda: client.redis.zcard("ovam:queue"))  # put back, for later
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
    await client.store.put(f"jobs/{record.id}/request", job.model_dump_json().encode())
    async with running(other):
        await client.deliver(record)
        await soon(lambda: client.redis.zcard("ovam:queue"))
        assert not (await client.ledger.get(record.id)).claimed


def test_the_longer_a_job_waits_the_longer_it_stays_away() -> None:
    def aged(seconds: float) -> JobRecord:
        return JobRecord.model_construct(created_at=utc_now() - timedelta(seconds=seconds))

    assert until_next_look(None) == until_next_look(aged(0)) == SOONEST_LOOK
    assert SOONEST_LOOK < until_next_look(aged(20)) < until_next_look(aged(40)) < LATEST_LOOK
    assert until_next_look(aged(1000)) == LATEST_LOOK
