import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from contracts.schema.jobs import JobRecord
from contracts.state.ledger import Ledger
from service import events
from service.events import Events
from tests.service.in_test_worker import InTestWorker
from tests.service.serving import assert_problem

pytestmark = pytest.mark.usefixtures("worker")


def parsed(text: str) -> list[dict[str, str]]:
    """The events of a stream, without comments."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


@pytest.fixture
async def job_id(online: httpx2.AsyncClient) -> str:
    return (await online.post("/v1/generate", json={"prompt": "a car"})).json()["id"]


async def test_a_job_is_followed_from_its_first_event_to_its_last_as_they_happen(
    online: httpx2.AsyncClient, worker: InTestWorker, job_id: str
) -> None:
    seen = []
    async with online.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        blocks = stream.aiter_text()
        seen += parsed(await anext(blocks))
        await worker.begin(job_id)
        seen += parsed(await anext(blocks))
        await worker.step(job_id, 1)
        seen += parsed(await anext(blocks))
        await worker.end(job_id)
        async for block in blocks:
            seen += parsed(block)
    assert [event["event"] for event in seen] == ["state", "state", "progress", "state"]
    assert [json.loads(event["data"])["state"] for event in seen] == ["queued", "running", "running", "succeeded"]
    assert json.loads(seen[2]["data"])["progress"]["done"] == 1
    assert len({event["id"] for event in seen}) == 4


async def test_a_reader_that_comes_back_goes_on_where_it_was(
    online: httpx2.AsyncClient, worker: InTestWorker, job_id: str
) -> None:
    await worker.begin(job_id)
    await worker.step(job_id, 1)
    await worker.end(job_id)
    whole = parsed((await online.get(f"/v1/jobs/{job_id}/events")).text)
    for place, event in enumerate(whole):
        rest = await online.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": event["id"]})
        assert parsed(rest.text) == whole[place + 1 :]


async def test_a_job_that_is_over_keeps_no_reader_waiting(online: httpx2.AsyncClient, worker: InTestWorker, job_id: str) -> None:
    await worker.end(job_id)
    last = parsed((await online.get(f"/v1/jobs/{job_id}/events")).text)[-1]["id"]
    rest = await asyncio.wait_for(online.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last}), 3)
    assert rest.text == ""


async def test_the_last_event_is_not_lost_when_the_job_ends_between_two_looks(
    redis: Redis, worker: InTestWorker, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Ledger.find

    async def late(ledger: Ledger, job_id: str) -> JobRecord | None:
        monkeypatch.setattr(Ledger, "find", find)
        await worker.end(job_id)
        return await find(ledger, job_id)

    monkeypatch.setattr(Ledger, "find", late)
    seen = [json.loads(event.data)["state"] async for event in Events(redis, redis).follow(job_id)]
    assert (seen[0], seen[-1]) == ("queued", "succeeded")


@pytest.mark.parametrize("away", [0, 1, 2])
async def test_a_follower_waits_whenever_redis_does_not_answer(
    redis: Redis, worker: InTestWorker, job_id: str, monkeypatch: pytest.MonkeyPatch, away: int
) -> None:
    monkeypatch.setattr(events, "RETRY", 0.01)
    answers = {name: getattr(owner, name) for owner, name in ((Ledger, "find"), (Events, "read"))}
    asked = count()

    def seldom(name: str) -> Callable[..., Awaitable[Any]]:
        async def answer(*arguments: Any) -> Any:
            if next(asked) == away:  # the record, what is there, what came before anybody listened
                raise RedisTimeoutError
            return await answers[name](*arguments)

        return answer

    monkeypatch.setattr(Ledger, "find", seldom("find"))
    monkeypatch.setattr(Events, "read", seldom("read"))
    own = Events(redis, redis)
    reading = asyncio.create_task(own.run())
    seen = asyncio.create_task(told(own, job_id))
    await asyncio.sleep(0.1)
    await worker.end(job_id)
    assert await asyncio.wait_for(seen, 10) == ["queued", "running", "succeeded"]
    reading.cancel()


async def told(own: Events, job_id: str) -> list[str]:
    """The states that a follower is told."""
    return [json.loads(event.data)["state"] async for event in own.follow(job_id)]


async def test_the_stream_of_a_job_that_is_deleted_ends(
    online: httpx2.AsyncClient, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.events.BLOCK", 0.2)
    following = asyncio.create_task(online.get(f"/v1/jobs/{job_id}/events"))
    await asyncio.sleep(0.1)
    await online.delete(f"/v1/jobs/{job_id}")
    assert len(parsed((await asyncio.wait_for(following, 5)).text)) == 1


async def test_an_idle_stream_is_kept_alive_by_comments(
    online: httpx2.AsyncClient, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.1)
    async with online.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        blocks = stream.aiter_text()
        await anext(blocks)
        assert (await anext(blocks)).startswith(":")


async def test_a_reader_that_leaves_leaves_the_server_well(online: httpx2.AsyncClient, worker: InTestWorker, job_id: str) -> None:
    async with online.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        await anext(stream.aiter_text())
    assert (await online.get("/healthz")).status_code == 200
    await worker.end(job_id)
    assert len(parsed((await online.get(f"/v1/jobs/{job_id}/events")).text)) == 3


@pytest.mark.parametrize("last", ["x", "1", "-1", "1-1-1", "$"])
async def test_an_event_id_that_is_none_is_refused(online: httpx2.AsyncClient, job_id: str, last: str) -> None:
    answer = await online.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last})
    assert_problem(answer, 422, "invalid-request", "Last-Event-ID")
