from datetime import timedelta

import httpx2
import pytest
from redis.asyncio import Redis

from contracts import keys
from contracts.jobs import utc_now
from tests.service.in_test_worker import InTestWorker, token
from tests.service.serving import Json, Traces, assert_problem

CAR = {"label": "car", "prompt": "a photograph of a car", "word": "car"}


async def test_words_that_were_never_in_the_images_prompt_can_be_asked_for(client: httpx2.AsyncClient, generated: str) -> None:
    body = {"job_id": generated, "targets": [CAR, {"label": "wheel", "prompt": "the wheel", "word": "wheel"}]}
    answer = await client.post("/v1/attribute", json=body)
    assert answer.status_code == 202
    assert answer.json()["kind"] == "attribute"


async def test_a_learned_token_can_be_asked_for(client: httpx2.AsyncClient, worker: InTestWorker, generated: str) -> None:
    await worker.publish_token(token("car-1"))
    body = {"job_id": generated, "targets": [{"label": "car", "token": "car-1"}]}
    assert (await client.post("/v1/attribute", json=body)).status_code == 202


BAD_TARGETS = [
    ({"label": "x", "prompt": "a scar", "word": "car"}, 422, "word-not-in-prompt", "targets.0.word"),
    ({"label": "x", "prompt": "a car", "word": "a tree"}, 422, "word-not-in-prompt", "targets.0.word"),
    ({"label": "x", "prompt": "a car", "word": "car", "occurrence": 1}, 422, "word-not-in-prompt", "targets.0.occurrence"),
    ({"label": "x", "prompt": "long " * 20}, 422, "prompt-too-long", "targets.0.prompt"),
    ({"label": "x", "token": "nobody"}, 404, "unknown-token", "targets.0.token"),
    ({"label": "x", "token": "foreign"}, 422, "token-of-other-model", "targets.0.token"),
    ({"label": "x"}, 422, "invalid-request", "targets.0"),
    ({"label": "x", "prompt": "a car", "token": "foreign"}, 422, "invalid-request", "targets.0"),
    ({"label": "x", "prompt": "a car", "occurrence": 0}, 422, "invalid-request", "targets.0"),
    ({"label": "x", "prompt": "a car", "word": "car", "occurrence": -1}, 422, "invalid-request", "targets.0.occurrence"),
]


@pytest.mark.parametrize(("target", "status", "code", "field"), BAD_TARGETS)
async def test_a_bad_target_is_refused_and_leaves_no_trace(
    client: httpx2.AsyncClient,
    worker: InTestWorker,
    generated: str,
    traces: Traces,
    target: Json,
    status: int,
    code: str,
    field: str,
) -> None:
    await worker.publish_token(token("foreign", model="other"))
    before = await traces()
    answer = await client.post("/v1/attribute", json={"job_id": generated, "targets": [target]})
    assert_problem(answer, status, code, field)
    assert await traces() == before


async def test_the_refusal_of_a_word_names_the_prompt(client: httpx2.AsyncClient, generated: str) -> None:
    target = {"label": "x", "prompt": "a house by the sea", "word": "car"}
    answer = await client.post("/v1/attribute", json={"job_id": generated, "targets": [target]})
    assert "'a house by the sea'" in assert_problem(answer, 422, "word-not-in-prompt")["detail"]


async def test_labels_must_differ(client: httpx2.AsyncClient, generated: str) -> None:
    answer = await client.post("/v1/attribute", json={"job_id": generated, "targets": [CAR, CAR]})
    assert_problem(answer, 422, "invalid-request", "body")


async def test_an_image_that_the_job_does_not_have_is_refused(client: httpx2.AsyncClient, generated: str) -> None:
    answer = await client.post("/v1/attribute", json={"job_id": generated, "image": 2, "targets": [CAR]})
    assert_problem(answer, 422, "image-index-out-of-range", "image")


@pytest.mark.usefixtures("worker")
async def test_an_unknown_job_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/attribute", json={"job_id": "0" * 26, "targets": [CAR]})
    assert_problem(answer, 404, "unknown-job", "job_id")


async def test_a_job_that_is_not_finished_is_refused_for_now(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    job_id = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
    body = {"job_id": job_id, "targets": [CAR]}
    assert_problem(await client.post("/v1/attribute", json=body), 409, "job-not-finished", "job_id")
    await worker.begin(job_id)
    assert_problem(await client.post("/v1/attribute", json=body), 409, "job-not-finished", "job_id")
    await worker.end(job_id)
    assert (await client.post("/v1/attribute", json=body)).status_code == 202


async def test_a_failed_job_is_refused_with_the_reason_of_its_failure(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    job_id = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
    await worker.fail(job_id, "the accelerator is full")
    answer = await client.post("/v1/attribute", json={"job_id": job_id, "targets": [CAR]})
    assert "the accelerator is full" in assert_problem(answer, 409, "job-not-successful", "job_id")["detail"]


async def test_a_job_of_another_kind_is_refused(client: httpx2.AsyncClient, generated: str) -> None:
    other = (await client.post("/v1/attribute", json={"job_id": generated, "targets": [CAR]})).json()["id"]
    answer = await client.post("/v1/attribute", json={"job_id": other, "targets": [CAR]})
    assert_problem(answer, 422, "wrong-job-kind", "job_id")


async def test_an_expired_job_is_refused(client: httpx2.AsyncClient, worker: InTestWorker, generated: str, redis: Redis) -> None:
    record = await worker.ledger.get(generated)
    expired = record.changed(expires_at=utc_now() - timedelta(seconds=1))
    await redis.set(keys.job(generated), expired.model_dump_json())
    answer = await client.post("/v1/attribute", json={"job_id": generated, "targets": [CAR]})
    assert_problem(answer, 410, "job-expired", "job_id")
    assert (await client.get(f"/v1/jobs/{generated}")).json()["state"] == "expired"
    assert_problem(await client.get(f"/v1/jobs/{generated}/artifacts/image-0.png"), 410, "job-expired")
    assert_problem(await client.get(f"/v1/jobs/{generated}/events"), 410, "job-expired")
    assert_problem(await client.post(f"/v1/jobs/{generated}/cancel"), 410, "job-expired")


async def test_a_job_whose_model_is_no_longer_served_is_refused(client: httpx2.AsyncClient, generated: str, redis: Redis) -> None:
    await redis.hdel(keys.MODELS, "tiny")
    answer = await client.post("/v1/attribute", json={"job_id": generated, "targets": [CAR]})
    assert_problem(answer, 503, "no-worker")
