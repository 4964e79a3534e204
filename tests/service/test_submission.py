"""What holds for every way to ask for a job: bodies, idempotency, a full queue, waiting."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx2
import pytest
from redis.asyncio import Redis

from contracts.state import keys
from tests.service.in_test_worker import InTestWorker
from tests.service.serving import Traces, assert_problem

CAR = {"prompt": "a car", "seed": 1}
PATHS = ("/v1/generate", "/v1/attribute", "/v1/optimize")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("worker")
async def test_a_body_that_is_not_json_is_refused(client: httpx2.AsyncClient, traces: Traces, path: str) -> None:
    for content in (b"{", b"", b"\xff\xfe", b'{"prompt": "a\nb"}', b"[" * 3000):
        answer = await client.post(path, content=content, headers={"content-type": "application/json"})
        assert_problem(answer, *((422, "invalid-request") if content == b"" else (400, "invalid-json")))
    assert await traces() == (0, 0, 0, 0)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("worker")
async def test_a_body_that_is_not_declared_as_json_is_refused(client: httpx2.AsyncClient, traces: Traces, path: str) -> None:
    for kind in ({}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}):
        answer = await client.post(path, content=b'{"prompt": "a car"}', headers=kind)
        assert_problem(answer, 415, "unsupported-media-type", "Content-Type")
    assert await traces() == (0, 0, 0, 0)


@pytest.mark.usefixtures("worker")
async def test_text_that_utf8_cannot_hold_is_refused(client: httpx2.AsyncClient, traces: Traces) -> None:
    answer = await client.post("/v1/generate", content=rb'{"prompt": "a\ud800car"}', headers={"content-type": "application/json"})
    assert_problem(answer, 422, "invalid-request", "prompt")
    assert await traces() == (0, 0, 0, 0)


@pytest.mark.usefixtures("worker")
async def test_a_number_that_json_does_not_know_is_refused(client: httpx2.AsyncClient) -> None:
    for number in (b"NaN", b"Infinity", b"1e999"):
        content = b'{"prompt": "a car", "guidance_scale": ' + number + b"}"
        answer = await client.post("/v1/generate", content=content, headers={"content-type": "application/json"})
        assert_problem(answer, 422, "invalid-request", "guidance_scale")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("worker")
async def test_a_body_that_is_too_large_is_refused(online: httpx2.AsyncClient, traces: Traces, path: str) -> None:
    assert_problem(await online.post(path, json={"prompt": "a" * 20_001}), 413, "body-too-large")

    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"a" * 1000

    answer = await online.post(path, content=in_pieces(), headers={"content-type": "application/json"})
    assert_problem(answer, 413, "body-too-large")
    assert await traces() == (0, 0, 0, 0)


@pytest.mark.usefixtures("worker")
async def test_the_same_key_and_body_give_the_same_job(client: httpx2.AsyncClient, traces: Traces) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = await client.post("/v1/generate", json={"prompt": "a car"}, headers=headers)
    second = await client.post("/v1/generate", json={"prompt": "a car"}, headers=headers)
    assert first.json() == second.json()
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert await traces() == (1, 1, 1, 1)


@pytest.mark.usefixtures("worker")
async def test_many_at_once_with_the_same_key_make_one_job(client: httpx2.AsyncClient, traces: Traces) -> None:
    posts = [client.post("/v1/generate", json={"prompt": "a car"}, headers={"Idempotency-Key": "k1"}) for _ in range(8)]
    answers = await asyncio.gather(*posts)
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await traces() == (1, 1, 1, 1)


async def test_a_key_with_another_body_or_another_kind_is_refused(
    client: httpx2.AsyncClient, generated: str, traces: Traces
) -> None:
    headers = {"Idempotency-Key": "k1"}
    await client.post("/v1/generate", json=CAR, headers=headers)
    before = await traces()
    answer = await client.post("/v1/generate", json=CAR | {"seed": 2}, headers=headers)
    assert_problem(answer, 422, "idempotency-key-reused", "Idempotency-Key")
    body = {"job_id": generated, "targets": [{"label": "car", "prompt": "a car"}]}
    assert_problem(await client.post("/v1/attribute", json=body, headers=headers), 422, "idempotency-key-reused")
    assert await traces() == before


async def test_a_key_is_in_flight_while_its_first_request_waits(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    headers = {"Idempotency-Key": "k1"}
    waiting = asyncio.create_task(client.post("/v1/generate", json=CAR, headers=headers | {"Prefer": "wait=10"}))
    while not await worker.redis.zcard(keys.QUEUED):
        await asyncio.sleep(0.01)
    answer = await client.post("/v1/generate", json=CAR, headers=headers)
    assert_problem(answer, 409, "idempotency-key-in-flight", "Idempotency-Key")
    assert answer.headers["retry-after"]
    (job_id,) = await worker.redis.zrange(keys.QUEUED, 0, -1)
    await worker.end(job_id.decode())
    first = await waiting
    again = await client.post("/v1/generate", json=CAR, headers=headers | {"Prefer": "wait=10"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()


@pytest.mark.usefixtures("worker", "generated")
async def test_a_replay_is_not_checked_again(client: httpx2.AsyncClient, redis: Redis) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = await client.post("/v1/generate", json=CAR, headers=headers)
    await redis.delete(keys.MODELS)
    assert (await client.post("/v1/generate", json=CAR, headers=headers)).json() == first.json()


@pytest.mark.usefixtures("worker")
async def test_the_key_of_a_deleted_job_is_free(client: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = await client.post("/v1/generate", json=CAR, headers=headers)
    await client.delete(first.headers["location"])
    second = await client.post("/v1/generate", json=CAR, headers=headers)
    assert second.json()["id"] != first.json()["id"]


@pytest.mark.usefixtures("worker")
async def test_a_refused_request_does_not_use_its_key_up(client: httpx2.AsyncClient, redis: Redis) -> None:
    headers = {"Idempotency-Key": "k1"}
    assert_problem(await client.post("/v1/generate", json=CAR | {"height": 3000}, headers=headers), 422, "size-too-large")
    assert [key async for key in redis.scan_iter("ovam:idempotency:*")] == []
    assert (await client.post("/v1/generate", json=CAR, headers=headers)).status_code == 202


@pytest.mark.usefixtures("worker")
async def test_a_key_must_be_printable(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/generate", json=CAR, headers={"Idempotency-Key": "a" * 256})
    assert_problem(answer, 422, "invalid-request", "Idempotency-Key")


async def test_a_full_queue_refuses_until_a_worker_begins_a_job(
    client: httpx2.AsyncClient, worker: InTestWorker, traces: Traces
) -> None:
    ids = [(await client.post("/v1/generate", json=CAR)).json()["id"] for _ in range(3)]
    answer = await client.post("/v1/generate", json=CAR, headers={"Idempotency-Key": "k1"})
    assert_problem(answer, 429, "queue-full")
    assert int(answer.headers["retry-after"]) > 0
    assert await traces() == (3, 3, 3, 3)
    await worker.begin(ids[0])
    assert (await client.post("/v1/generate", json=CAR, headers={"Idempotency-Key": "k1"})).status_code == 202


async def test_a_lane_that_is_full_leaves_the_other_one_open(client: httpx2.AsyncClient, generated: str) -> None:
    for _ in range(3):
        await client.post("/v1/generate", json=CAR)
    assert_problem(await client.post("/v1/generate", json=CAR), 429, "queue-full")
    body = {"job_id": generated, "targets": [{"word": "car"}]}
    assert (await client.post("/v1/attribute", json=body)).status_code == 202
    assert (await client.post(f"/v1/jobs/{generated}/probe", json={"point": [0, 0], "words": ["car"]})).status_code == 202


async def test_who_prefers_to_wait_gets_the_finished_job(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    waiting = asyncio.create_task(client.post("/v1/generate", json=CAR, headers={"Prefer": "respond-async, wait=20"}))
    while not (ids := await worker.redis.zrange(keys.QUEUED, 0, -1)):
        await asyncio.sleep(0.01)
    await worker.end(ids[0].decode())
    ended = time.perf_counter()
    answer = await waiting
    assert time.perf_counter() - ended < 0.5
    assert (answer.status_code, answer.json()["state"]) == (201, "succeeded")
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    assert answer.headers["preference-applied"] == "wait"
    assert "retry-after" not in answer.headers


@pytest.mark.usefixtures("worker")
async def test_who_waits_in_vain_gets_the_job_as_it_is(client: httpx2.AsyncClient) -> None:
    begun = time.perf_counter()
    answer = await client.post("/v1/generate", json=CAR, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert 0.9 < time.perf_counter() - begun < 3


@pytest.mark.parametrize("prefer", ["wait=soon", "wait", "wait=-1", "return=minimal", "", "await=5"])
@pytest.mark.usefixtures("worker")
async def test_a_preference_that_makes_no_sense_is_ignored(client: httpx2.AsyncClient, prefer: str) -> None:
    answer = await client.post("/v1/generate", json=CAR, headers={"Prefer": prefer})
    assert answer.status_code == 202
