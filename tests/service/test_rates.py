"""How fast a lane moves is measured, and tells when a job starts and when a full lane has room again."""

import asyncio
from datetime import datetime
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis

from contracts.state import keys
from tests.service.in_test_worker import InTestWorker
from tests.service.serving import assert_problem

CAR = {"prompt": "a car", "seed": 1}


async def waiting(client: httpx2.AsyncClient, count: int, **headers: str) -> list[dict[str, Any]]:
    """Jobs that wait."""
    return [(await client.post("/v1/generate", json=CAR, headers=headers)).json() for _ in range(count)]


async def measured(redis: Redis, seconds: float, lane: str = keys.DOCKET) -> None:
    await redis.hset(keys.RATES, f"{lane}:seconds", str(seconds))


async def test_the_time_between_two_claims_counts_only_while_jobs_wait(
    client: httpx2.AsyncClient, worker: InTestWorker, redis: Redis
) -> None:
    first, second, third = await waiting(client, 3)
    await worker.claim(first["id"])
    await asyncio.sleep(0.3)
    await worker.claim(second["id"])
    seconds = float(await redis.hget(keys.RATES, f"{keys.DOCKET}:seconds"))
    assert 0.3 <= seconds < 3
    await worker.claim(third["id"])
    before = float(await redis.hget(keys.RATES, f"{keys.DOCKET}:seconds"))
    assert before < seconds  # it was claimed at once
    await asyncio.sleep(0.3)  # nobody waits
    (fourth,) = await waiting(client, 1)
    await worker.claim(fourth["id"])
    assert float(await redis.hget(keys.RATES, f"{keys.DOCKET}:seconds")) == before


@pytest.mark.parametrize(("seconds", "after"), [(None, "5"), (0.2, "1"), (7.2, "8"), (1e6, "300")])
@pytest.mark.usefixtures("worker")
async def test_a_full_lane_says_when_it_moves_on(
    client: httpx2.AsyncClient, redis: Redis, seconds: float | None, after: str
) -> None:
    if seconds is not None:
        await measured(redis, seconds)
    await waiting(client, 3)
    answer = await client.post("/v1/generate", json=CAR)
    assert_problem(answer, 429, "queue-full")
    assert answer.headers["retry-after"] == after


async def test_a_job_that_waits_says_when_it_starts(client: httpx2.AsyncClient, worker: InTestWorker, redis: Redis) -> None:
    await measured(redis, 60)
    records = await waiting(client, 3)
    for place, record in enumerate(records):
        assert minutes_until_start(record) == pytest.approx(place, abs=0.2)
    await worker.claim(records[0]["id"])
    taken, next_one = [(await client.get(f"/v1/jobs/{record['id']}")).json() for record in records[:2]]
    assert taken["estimated_start"] is None
    assert minutes_until_start(next_one) == pytest.approx(0, abs=0.2)


@pytest.mark.usefixtures("worker")
async def test_nobody_knows_when_a_job_starts_in_a_lane_that_never_moved(
    client: httpx2.AsyncClient,
) -> None:
    assert [record["estimated_start"] for record in await waiting(client, 2)] == [None, None]


def minutes_until_start(record: dict[str, Any]) -> float:
    return (datetime.fromisoformat(record["estimated_start"]) - datetime.now().astimezone()).total_seconds() / 60
