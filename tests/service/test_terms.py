"""The terms on which a job is taken: its priority, its deadline."""

import asyncio
from datetime import datetime, timedelta

import httpx2
import pytest
from redis.asyncio import Redis

from contracts.state import keys
from tests.service.in_test_worker import InTestWorker
from tests.service.serving import Traces, assert_problem
from tests.service.test_submission import ways

CAR = {"prompt": "a car", "seed": 1}


@pytest.mark.parametrize(
    ("priority", "long", "short"),
    [
        (None, keys.DOCKET, keys.INTERACTIVE),
        ("interactive", keys.URGENT, keys.INTERACTIVE),
        ("normal", keys.DOCKET, keys.DOCKET),
        ("bulk", keys.BULK, keys.BULK),
    ],
)
async def test_each_priority_has_a_lane(
    client: httpx2.AsyncClient, generated: str, redis: Redis, priority: str | None, long: str, short: str
) -> None:
    headers = {"Job-Priority": priority} if priority else {}
    for path, body in ways(generated).items():
        record = (await client.post(path, json=body, headers=headers)).json()
        is_short = record["kind"] in keys.SHORT_KINDS
        assert record["priority"] == (priority or ("interactive" if is_short else "normal"))
        lane = short if is_short else long
        assert [await redis.zcard(keys.waiting(each)) for each in keys.DOCKETS] == [each == lane for each in keys.DOCKETS]
        async with asyncio.timeout(5):
            while not await redis.xlen(f"{lane}:stream"):  # a job is handed on after its client has the answer
                await asyncio.sleep(0.01)
        await client.delete(f"/v1/jobs/{record['id']}")
        assert await redis.zcard(keys.waiting(lane)) == 0


@pytest.mark.usefixtures("worker")
async def test_a_priority_that_does_not_exist_is_refused(client: httpx2.AsyncClient, traces: Traces) -> None:
    answer = await client.post("/v1/generate", json=CAR, headers={"Job-Priority": "urgent"})
    assert "Job-Priority" in assert_problem(answer, 422, "invalid-request")["detail"]
    assert await traces() == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172_800), ("1d1h1m1s", 90_061)]
)
async def test_a_job_is_canceled_after_a_time(
    client: httpx2.AsyncClient, worker: InTestWorker, redis: Redis, text: str, seconds: int
) -> None:
    record = (await client.post("/v1/generate", json=CAR, headers={"Cancel-After": text})).json()
    asked = datetime.fromisoformat(record["deadline"]) - datetime.fromisoformat(record["created_at"])
    assert abs(asked - timedelta(seconds=seconds)) < timedelta(seconds=1)
    assert await redis.zscore(keys.DEADLINES, record["id"]) == int(datetime.fromisoformat(record["deadline"]).timestamp() * 1000)
    await worker.end(record["id"])
    assert await redis.zcard(keys.DEADLINES) == 0


@pytest.mark.parametrize("text", ["0", "-1", "soon", "m", "31d", "5m1h", "1.5h", "1e3"])
@pytest.mark.usefixtures("worker")
async def test_a_time_that_makes_no_sense_is_refused(client: httpx2.AsyncClient, traces: Traces, text: str) -> None:
    answer = await client.post("/v1/generate", json=CAR, headers={"Cancel-After": text})
    assert (answer.status_code, answer.json()["code"]) in [(422, "invalid-request"), (422, "invalid-argument")]
    assert "Cancel-After" in answer.json()["detail"]
    assert await traces() == (0, 0, 0, 0)
