"""What stands in Redis is never unpickled, and a message that is not ours stops no worker."""

import asyncio
import os
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from docket import TaskKey, Worker

from contracts.schema.jobs import new_job_id
from contracts.state import keys
from contracts.state.dockets import OURS, JobDocket, JobExecution, enqueue

WHEN = {b"when": b"2026-01-01T00:00:00+00:00", b"attempt": b"1"}


class Hostile:
    """Leaves a file where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@asynccontextmanager
async def working(redis_url: str, ran: list[str]) -> AsyncIterator[JobDocket]:
    """A docket and its worker, which notes the jobs that it runs."""

    async def run_job(job_id: str = TaskKey()) -> None:
        ran.append(job_id)

    async with JobDocket(keys.DOCKET, redis_url) as docket:
        docket.register(run_job, names=[keys.TASK])
        pause = timedelta(milliseconds=20)
        async with Worker(docket, minimum_check_interval=pause, redelivery_timeout=timedelta(seconds=1)) as worker:
            forever = asyncio.create_task(worker.run_forever())
            yield docket
            assert not forever.done(), forever.exception()
        await forever


async def until(holds: Any) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.02)


def messages(trace: Path) -> dict[str, dict[bytes, bytes]]:
    hostile, job = pickle.dumps(Hostile(trace)), {b"key": new_job_id().encode(), **WHEN}
    return {
        "hostile arguments": {**job, **OURS, b"args": hostile},
        "hostile keyword arguments": {**job, **OURS, b"kwargs": hostile},
        "arguments that are harmless": {**job, **OURS, b"args": pickle.dumps((1,))},
        "another task": {**job, **OURS, b"function": b"sleep"},
        "no job's id": {**job, **OURS, b"key": b"../../x"},
        "a key that is no text": {**job, **OURS, b"key": b"\xff"},
        "a time that is none": {**job, **OURS, b"when": b"yesterday"},
        "an attempt that is no number": {**job, **OURS, b"attempt": b"x"},
        "almost nothing": {b"key": b"x"},
    }


@pytest.mark.parametrize("kind", messages(Path()))
async def test_a_message_that_is_not_ours_is_dropped_and_the_next_job_is_run(
    redis_url: str, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []
    async with working(redis_url, ran) as docket:
        async with docket.redis() as redis:
            await redis.xadd(docket.stream_key, messages(tmp_path / "trace")[kind])
        job_id = new_job_id()
        await enqueue(docket, job_id)
        await until(lambda: ran)
        await until(lambda: "not one of a gateway's" in caplog.text)
        async with docket.redis() as redis, asyncio.timeout(20):
            while await redis.xlen(docket.stream_key):
                await asyncio.sleep(0.02)
    assert ran == [job_id]
    assert not (tmp_path / "trace").exists()


async def test_strikes_are_not_read(redis_url: str, tmp_path: Path) -> None:
    ran: list[str] = []
    strike = {b"direction": b"strike", b"operator": b"==", b"value": pickle.dumps(Hostile(tmp_path / "trace"))}
    async with working(redis_url, ran) as docket:
        async with docket.redis() as redis:
            await redis.xadd(f"{docket.prefix}:strikes", strike)
        await enqueue(docket, new_job_id())
        await until(lambda: ran)
        await asyncio.sleep(0.2)
    assert not (tmp_path / "trace").exists()


async def test_an_attempt_that_was_overtaken_does_not_acknowledge_the_message_of_the_one_that_runs(redis_url: str) -> None:
    async def run_job(job_id: str = TaskKey()) -> None:
        raise NotImplementedError(job_id)

    async with JobDocket(keys.DOCKET, redis_url) as docket, docket.redis() as redis:
        docket.register(run_job, names=[keys.TASK])
        await enqueue(docket, new_job_id())
        group, stream = docket.worker_group_name, docket.stream_key
        await redis.xgroup_create(stream, group, id="0", mkstream=True)
        [(_, [(message_id, message)])] = await redis.xreadgroup(group, "one", {stream: ">"})
        one, two = [await JobExecution.from_message(docket, message, message_id=message_id) for _ in range(2)]
        assert await one.claim("one")
        assert await two.claim("two")  # "one" was silent for long
        await one.mark_as_completed()
        assert await redis.xlen(stream) == 1
        assert await docket.get_execution(two.key) is not None
        await two.mark_as_completed()
        assert await redis.xlen(stream) == 0
