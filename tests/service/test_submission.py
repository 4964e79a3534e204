"""What holds for every way to ask for a job: bodies, idempotency, a full queue, waiting."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import httpx2
import pytest
from redis.asyncio import Redis

from contracts.rules.capabilities import generate_job
from contracts.schema.images import GenerateRequest
from contracts.state import keys
from contracts.state.ledger import REMEMBERED
from service import examples
from service.app import create_app
from service.queue import REPLAYED_FOR, Once, Queue
from service.resources import docket
from service.routes.submission import asked_wait
from service.settings import GatewaySettings
from tests.service.in_test_worker import InTestWorker, card
from tests.service.serving import Json, Traces, assert_problem, client_of

CAR = {"prompt": "a car", "seed": 1}
PATHS = ("/v1/generate", "/v1/images", "/v1/attribute", f"/v1/jobs/{'0' * 26}/probe", "/v1/optimize", "/v1/tokens")


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


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.ovam+json"])
@pytest.mark.usefixtures("worker")
async def test_every_way_to_declare_json_is_taken(client: httpx2.AsyncClient, kind: str) -> None:
    assert (await client.post("/v1/generate", content=json.dumps(CAR), headers={"content-type": kind})).status_code == 202


@pytest.mark.usefixtures("worker")
async def test_text_that_utf8_cannot_hold_is_refused(client: httpx2.AsyncClient, traces: Traces) -> None:
    answer = await client.post("/v1/generate", content=rb'{"prompt": "a\ud800car"}', headers={"content-type": "application/json"})
    assert_problem(answer, 400, "invalid-json")
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
    assert answer.headers["x-request-id"]
    assert await traces() == (0, 0, 0, 0)


@pytest.mark.parametrize("declared", [True, False], ids=["with its length", "in pieces"])
@pytest.mark.parametrize(("size", "status"), [(20_000, 202), (20_001, 413)])
@pytest.mark.usefixtures("worker")
async def test_a_body_may_be_as_large_as_the_setting_says(
    online: httpx2.AsyncClient, size: int, status: int, *, declared: bool
) -> None:
    body = json.dumps(CAR).encode().ljust(size)

    async def in_pieces() -> AsyncIterator[bytes]:
        yield body[:9]
        yield b""
        yield body[9:]

    content = body if declared else in_pieces()
    answer = await online.post("/v1/generate", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status


def ways(generated: str) -> dict[str, Json]:
    """A request for a job of each kind, by its path."""
    outline = [[8, 8, 24, 8, 24, 24]]
    return {
        "/v1/generate": CAR,
        "/v1/images": {"image": examples.PNG},
        "/v1/attribute": {"job_id": generated, "targets": [{"word": "car"}]},
        f"/v1/jobs/{generated}/probe": {"point": [0, 0], "words": ["car"]},
        "/v1/optimize": {"name": "car", "classes": ["car"], "examples": [{"job_id": generated, "mask": outline}]},
        "/v1/tokens": examples.IMPORT,
    }


async def test_a_job_of_any_kind_can_be_waited_for_and_is_made_once_for_a_key(
    client: httpx2.AsyncClient, generated: str, worker: InTestWorker
) -> None:
    for path, body in ways(generated).items():
        headers = {"Idempotency-Key": path, "Prefer": "wait=20"}
        waiting = asyncio.create_task(client.post(path, json=body, headers=headers))
        while not (ids := await worker.redis.zrange(keys.QUEUED, 0, -1)):
            assert not waiting.done(), (await waiting).text
            await asyncio.sleep(0.01)
        await worker.end(ids[0].decode())
        first, again = await waiting, await client.post(path, json=body, headers=headers)
        assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
        assert (first.headers["preference-applied"], again.headers["idempotent-replayed"]) == ("wait", "true")


async def test_a_job_of_any_kind_waits_in_the_docket_of_its_kind_and_in_no_other(
    client: httpx2.AsyncClient, generated: str, redis: Redis
) -> None:
    async def waiting() -> dict[str, int]:
        return {docket: await redis.xlen(f"{docket}:stream") for docket in keys.DOCKETS}

    short = {"attribute", "probe", "import"}
    before = await waiting()
    for path, body in ways(generated).items():
        record = (await client.post(path, json=body)).json()
        docket = keys.INTERACTIVE if record["kind"] in short else keys.DOCKET
        async with asyncio.timeout(5):
            while await waiting() != before | {docket: before[docket] + 1}:
                await asyncio.sleep(0.01)
        await client.delete(f"/v1/jobs/{record['id']}")
        assert await waiting() == before


@pytest.mark.usefixtures("worker")
async def test_a_job_lives_as_long_as_the_setting_says(settings: GatewaySettings) -> None:
    async with client_of(create_app(settings.model_copy(update={"job_ttl_seconds": 3600}))) as client:
        record = (await client.post("/v1/generate", json=CAR)).json()
    life = datetime.fromisoformat(record["expires_at"]) - datetime.fromisoformat(record["created_at"])
    assert life == timedelta(hours=1)


async def test_a_job_that_cannot_be_delivered_is_filed_for_the_janitor_to_deliver(redis: Redis, worker: InTestWorker) -> None:
    job = generate_job(GenerateRequest(prompt="a car"), card())
    async with docket(keys.DOCKET, "redis://127.0.0.1:1/0") as nowhere:
        queue = Queue(redis, {keys.DOCKET: nowhere}, worker.store, max_queued=9, job_ttl=timedelta(hours=1))
        record, new = await queue.submit(job, None)
    assert new
    assert await redis.zrange(keys.QUEUED, 0, -1) == [record.id.encode()]
    assert (await worker.ledger.get(record.id)).state == "queued"


@pytest.mark.usefixtures("worker")
async def test_whatever_a_submission_leaves_in_redis_has_its_time(
    client: httpx2.AsyncClient, redis: Redis, settings: GatewaySettings
) -> None:
    begun = time.time()
    record = (await client.post("/v1/generate", json=CAR, headers={"Idempotency-Key": "k1"})).json()
    job_id, life = record["id"], settings.job_ttl_seconds + REMEMBERED.total_seconds()
    for key, seconds in (
        (keys.job(job_id), life),
        (keys.events(job_id), life),
        (keys.idempotency("k1"), REPLAYED_FOR.total_seconds()),
    ):
        assert seconds - 30 < await redis.ttl(key) <= seconds, key
    queued = await redis.zscore(keys.QUEUED, job_id) / 1000
    assert begun - 1 < queued < time.time() + 1  # by which the janitor knows jobs that wait for long


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


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [("wait=5", 5), ("respond-async, WAIT = 7", 7), ("wait=60", 60), ("wait=61", 60), ("wait=0", 0), ("await=5", 0), (None, 0)],
)
def test_a_client_waits_as_long_as_it_likes_but_not_longer_than_a_minute(prefer: str | None, seconds: int) -> None:
    assert asked_wait(prefer) == seconds


async def test_a_key_whose_first_request_broke_off_is_not_in_flight_any_more(
    client: httpx2.AsyncClient, worker: InTestWorker
) -> None:
    headers = {"Idempotency-Key": "k1"}
    waiting = asyncio.create_task(client.post("/v1/generate", json=CAR, headers=headers | {"Prefer": "wait=20"}))
    while not await worker.redis.xlen(f"{keys.DOCKET}:stream"):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)  # now it waits for the job
    waiting.cancel()
    await asyncio.wait([waiting])
    again = await client.post("/v1/generate", json=CAR, headers=headers)
    assert (again.status_code, again.headers.get("idempotent-replayed")) == (202, "true")


@pytest.mark.parametrize("prefer", ["wait=soon", "wait", "wait=-1", "return=minimal", "", "await=5"])
@pytest.mark.usefixtures("worker")
async def test_a_preference_that_makes_no_sense_is_ignored(client: httpx2.AsyncClient, prefer: str) -> None:
    answer = await client.post("/v1/generate", json=CAR, headers={"Prefer": prefer})
    assert answer.status_code == 202


FINGERPRINTS = """
from contracts.schema.attribute import AttributeRequest
from contracts.schema.datasets import DatasetRequest
from contracts.schema.images import GenerateRequest
from service import examples
from service.queue import Once

settings = {"threshold": {"kind": "otsu"}, "blocks": ["up"], "crf": None, "reduction": "sum"}
question = examples.ATTRIBUTE | {"settings": settings}
filters = {"preset": "paper", "duplicates": "exact", "single_colour": True}
for kind, request in (
    (GenerateRequest, examples.GENERATE),
    (AttributeRequest, question),
    (DatasetRequest, examples.DATASET_REQUEST | {"filters": filters}),
):
    print(Once.of("key", kind.model_validate(request), 0).fingerprint)
"""


def test_every_gateway_knows_a_request_again() -> None:
    """Gateways are processes of their own, in each of which a set has another order."""

    def fingerprints(seed: int) -> str:
        environment = os.environ | {"PYTHONHASHSEED": str(seed)}
        return subprocess.run(
            [sys.executable, "-c", FINGERPRINTS], env=environment, check=True, capture_output=True, text=True
        ).stdout

    first = fingerprints(0)
    assert len(set(first.split())) == 3
    assert all(fingerprints(seed) == first for seed in (1, 2))


def test_the_order_of_names_makes_no_other_request() -> None:
    request = {"prompt": "a car", "seed": 1, "num_inference_steps": 4}
    turned = dict(reversed(request.items()))
    first, second = (Once.of("key", GenerateRequest.model_validate(each), 0) for each in (request, turned))
    assert first == second
