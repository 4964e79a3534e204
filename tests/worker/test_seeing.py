"""A worker at work, as an operator sees it: metrics, heartbeat, inventory, logs."""

import asyncio
import json
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry
from redis.exceptions import RedisError

from contracts.schema.jobs import JobRecord, State
from contracts.state import keys
from contracts.state.presence import heartbeats
from tests.worker.client import Client, soon
from worker import inventory, tasks
from worker.app import opened
from worker.inventory import counted
from worker.resources import Resources
from worker.settings import WorkerSettings
from worker.tasks import known_by

Value = Callable[..., float | None]


def values(registry: CollectorRegistry) -> Value:
    return lambda name, **labels: registry.get_sample_value(name, labels)


async def test_jobs_leave_their_times_their_bytes_and_their_lookups(client: Client, worker: Resources) -> None:
    image = await client.generated()
    assert (await client.attributed(image)).state is State.SUCCEEDED
    value = values(worker.metrics.registry)

    async def counted() -> bool:
        return value("ovam_job_store_seconds_count", kind="attribute") == 1

    await soon(counted)  # a record is final a moment before its attempt is
    for kind in ("generate", "attribute"):
        for phase in ("wait", "load", "device", "store"):
            assert value(f"ovam_job_{phase}_seconds_count", kind=kind) == 1
        assert value("ovam_job_device_seconds_sum", kind=kind) > 0
        assert value("ovam_job_store_seconds_sum", kind=kind) > 0
    assert value("ovam_store_transferred_bytes_total", operation="write") > 1000
    assert value("ovam_trace_cache_lookups_total", result="hit") == 1
    assert value("ovam_trace_cache_bytes") == worker.scenes.nbytes > 0
    assert value("process_resident_memory_bytes") > 1e6


async def test_a_failed_job_is_counted_by_its_code(client: Client, worker: Resources) -> None:
    del worker
    failed = await client.run(client.generation().model_copy(update={"model": "broken"}))
    assert failed.state is State.FAILED
    assert await client.redis.hgetall(keys.FAILURES) == {f"generate:{failed.error.code}".encode(): b"1"}


async def test_a_heartbeat_has_numbers_and_the_store_is_counted(client: Client, worker: Resources) -> None:
    del worker
    await soon(lambda: client.redis.exists(keys.worker("tester")))
    (beat,) = await heartbeats(client.redis)
    assert (beat.name, beat.host, beat.jobs, beat.trace_cache_bytes) == ("tester", socket.gethostname(), [], 0)
    assert 1e6 < beat.memory["host"].used < (beat.memory["host"].total or 0)
    await soon(lambda: client.redis.exists(keys.INVENTORY))
    assert set(json.loads(await client.redis.get(keys.INVENTORY))) == {"objects", "bytes"}


async def test_the_inventory_counts_objects_and_their_bytes(client: Client, settings: WorkerSettings) -> None:
    many = {f"jobs/b/1/{number}": b"1" for number in range(60)}  # a store lists 50 at a time
    for name, data in ({"jobs/a/1/x": b"123", "jobs/a/1/y": b"", "tokens/b/z": b"12"} | many).items():
        await client.store.put(name, data)
    async with opened(settings) as resources:
        assert await counted(resources) == {"objects": 63, "bytes": 65}


async def test_one_worker_at_a_time_counts_the_store_and_what_fails_is_tried_again(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[Exception] = [OSError(), RedisError()]
    counts, pauses = 0, 0

    async def counting(_: Any) -> dict[str, int]:
        nonlocal counts
        counts += 1
        if failures:
            raise failures.pop()
        return {"objects": 3, "bytes": 5}

    async def paused(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 4:
            raise asyncio.CancelledError
        if pauses < 3:  # the turn is over
            await client.redis.delete(inventory.TURN)

    monkeypatch.setattr(inventory, "counted", counting)
    monkeypatch.setattr(inventory, "asyncio", SimpleNamespace(sleep=paused))
    worker: Any = SimpleNamespace(redis=client.redis, settings=SimpleNamespace(worker_name="tester"))
    with pytest.raises(asyncio.CancelledError):
        await inventory.count_forever(worker)
    assert [each.levelname for each in caplog.records] == ["WARNING", "ERROR"]
    assert counts == 3, "the fourth turn is that of the worker that counted last"
    assert json.loads(await client.redis.get(keys.INVENTORY)) == {"objects": 3, "bytes": 5}
    assert await client.redis.ttl(keys.INVENTORY) > inventory.EVERY_SECONDS


async def test_whatever_is_logged_for_a_job_names_it_and_its_request(
    client: Client, worker: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    async def handle(attempt: object, resources: object) -> None:
        del attempt, resources
        seen.append(structlog.contextvars.get_contextvars())
        raise ValueError("no")

    del worker
    monkeypatch.setattr(tasks, "handle", handle)
    record = await client.record(client.generation())
    record = await client.ledger.change(record.id, lambda each: each.changed(request_id="abc"))
    await client.deliver(record)
    await client.ended(record.id)
    assert seen == [{"job_id": record.id, "kind": "generate", "attempt": 1, "request_id": "abc"}]


def test_a_job_that_nobody_asked_for_over_http_has_no_request(client: Client) -> None:
    record = JobRecord.model_construct(id="x", kind="probe", attempt=2, request_id=None)
    assert known_by(record) == {"job_id": "x", "kind": "probe", "attempt": 2}
    del client
