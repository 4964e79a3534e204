"""`ovam jobs`: dead jobs are listed, shown, and requeued."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from contracts.rules.capabilities import generate_job
from contracts.schema.errors import Code, Failure
from contracts.schema.images import GenerateRequest
from contracts.schema.jobs import JobRecord, State
from contracts.state import dead, keys
from contracts.state.ledger import Ledger, write
from launcher.cli import app
from tests.service.in_test_worker import card

T = TypeVar("T")


@pytest.fixture
def ovam(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("OVAM_REDIS_URL", redis_url)
    return CliRunner()


@pytest.fixture
def given_up(redis_url: str) -> JobRecord:
    """A job whose three workers died."""

    async def work(redis: Redis) -> JobRecord:
        record, ledger = await filed(redis), Ledger(redis)
        for _ in range(3):
            await ledger.claim(record.id, max_attempts=3)
        with pytest.raises(Exception, match=record.id):
            await ledger.claim(record.id, max_attempts=3)
        return await ledger.get(record.id)

    return run(redis_url, work)


def run(url: str, work: Callable[[Redis], Awaitable[T]]) -> T:
    async def done() -> T:
        async with Redis.from_url(url) as redis:
            return await work(redis)

    return asyncio.run(done())


async def filed(redis: Redis) -> JobRecord:
    record = JobRecord.filed(generate_job(GenerateRequest(prompt="a car"), card()), timedelta(hours=1))
    async with redis.pipeline() as pipe:
        write(pipe, record)
        await pipe.execute()
    return record


def test_a_job_that_was_given_up_is_listed_shown_and_requeued(ovam: CliRunner, given_up: JobRecord, redis_url: str) -> None:
    listed = ovam.invoke(app, ["jobs", "dead"]).stdout
    assert listed.startswith(f"{given_up.id}  generate, failed 20")
    assert "worker-died: 3 attempts ended without a result" in listed
    shown = json.loads(ovam.invoke(app, ["jobs", "dead", given_up.id]).stdout)
    assert (shown["request"]["prompt"], shown["deaths"]) == ("a car", 3)
    assert ovam.invoke(app, ["jobs", "requeue", given_up.id]).stdout == f"{given_up.id} is queued\n"
    assert json.loads(ovam.invoke(app, ["jobs", "dead", "--json"]).stdout) == []

    async def next_attempt(redis: Redis) -> JobRecord:
        assert [each.decode() for each in await redis.zrange(keys.QUEUED, 0, -1)] == [given_up.id]
        return await Ledger(redis).claim(given_up.id, max_attempts=3)

    again = run(redis_url, next_attempt)
    assert (again.attempt, again.deaths, again.error, again.state) == (4, 0, None, State.QUEUED)


def test_what_cannot_be_requeued_is_said_in_a_sentence(ovam: CliRunner, redis_url: str) -> None:
    async def work(redis: Redis) -> tuple[str, str]:
        queued, failed = await filed(redis), await filed(redis)
        record = await Ledger(redis).claim(failed.id, max_attempts=3)
        await Ledger(redis).fail(failed.id, record.attempt, Failure(code=Code.OUT_OF_MEMORY, detail="too large"))
        return queued.id, failed.id

    queued, failed = run(redis_url, work)
    for job_id, sentence in ((queued, "is queued; allowed"), (failed, "is failed; allowed"), ("0" * 26, "there is no job")):
        done = ovam.invoke(app, ["jobs", "requeue", job_id])
        assert (done.exit_code, sentence in done.stderr) == (1, True), done.output
    assert "there are no dead jobs" in ovam.invoke(app, ["jobs", "dead"]).stderr
    assert ovam.invoke(app, ["jobs", "dead", failed]).exit_code == 1


def test_only_so_many_are_remembered(given_up: JobRecord, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead, "MOST", 2)

    async def work(redis: Redis) -> list[str]:
        for _ in range(3):
            record = await filed(redis)
            claimed = await Ledger(redis).claim(record.id, max_attempts=3)
            failure = Failure(code=Code.STORE_UNAVAILABLE, detail="away")
            await Ledger(redis).put_back(record.id, claimed.attempt, failure, max_attempts=1)
        return [record.id for record in await dead.dead(redis)]

    found = run(redis_url, work)
    assert len(found) == 2
    assert given_up.id not in found
