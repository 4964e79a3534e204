import json
from datetime import timedelta

import httpx2
import pytest
from redis.asyncio import Redis

from contracts import keys
from contracts.jobs import utc_now
from service import examples
from tests.service.in_test_worker import InTestWorker, token
from tests.service.serving import Json, Traces, assert_problem

CAR = {"label": "car", "prompt": "a photograph of a car", "word": "car"}
EMBEDDING = {"label": "row", "embedding": [[0.5] * 8, [1.0] * 8]}


async def post(client: httpx2.AsyncClient, body: Json) -> httpx2.Response:
    """Ask with numbers that strict JSON does not have."""
    return await client.post("/v1/attribute", content=json.dumps(body), headers={"Content-Type": "application/json"})


async def test_words_that_were_never_in_the_images_prompt_can_be_asked_for(client: httpx2.AsyncClient, generated: str) -> None:
    body = {"job_id": generated, "targets": [CAR, {"label": "wheel", "prompt": "the wheel", "word": "wheel"}]}
    answer = await client.post("/v1/attribute", json=body)
    assert answer.status_code == 202
    assert answer.json()["kind"] == "attribute"


async def test_a_learned_token_can_be_asked_for(client: httpx2.AsyncClient, worker: InTestWorker, generated: str) -> None:
    await worker.publish_token(token("car-1"))
    body = {"job_id": generated, "targets": [{"label": "car", "token": "car-1"}]}
    answer = await client.post("/v1/attribute", json=body)
    assert answer.status_code == 202
    asked = answer.json()["request"]["targets"]
    assert [target["token"] for target in asked] == ["car-1@1"]  # the version that is the newest now


async def test_every_setting_can_be_said_for_the_request_and_for_a_target(client: httpx2.AsyncClient, generated: str) -> None:
    settings = {
        "padding": "max_length", "reduction": "sum", "blocks": ["up", 8], "evaluations": {"start": -5}, "heads": [0, -1],
        "refine": "none", "threshold": "share", "tau": 0.3, "normalize": "minmax", "crf": {"iterations": 2}, "minimum_area": 9,
        "fill_holes": True,
    }  # fmt: skip
    more = {"maps": ["block", "head"], "semantic": {"margin": 0.1}, "instances": {"connectivity": 4}, "method": "attn2mask"}
    body = {"job_id": generated, "targets": [CAR | {"settings": settings}, EMBEDDING], **settings, **more}
    answer = await client.post("/v1/attribute", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["request"]["targets"][0]["settings"]["crf"]["iterations"] == 2


BAD_TARGETS = [
    ({"label": "x", "prompt": "a scar", "word": "car"}, 422, "word-not-in-prompt", "targets.0.word"),
    ({"label": "x", "prompt": "a car", "word": "a tree"}, 422, "word-not-in-prompt", "targets.0.word"),
    ({"label": "x", "prompt": "a car", "word": "car", "occurrence": 1}, 422, "word-not-in-prompt", "targets.0.occurrence"),
    ({"label": "x", "prompt": "long " * 20}, 422, "prompt-too-long", "targets.0.prompt"),
    ({"label": "x", "token": "nobody"}, 404, "unknown-token", "targets.0.token"),
    ({"label": "x", "token": "foreign"}, 422, "token-of-other-model", "targets.0.token"),
    ({"label": "x", "token": "pets"}, 422, "unknown-class", "targets.0.class_name"),
    ({"label": "x", "token": "pets", "class_name": "bird"}, 422, "unknown-class", "targets.0.class_name"),
    ({"label": "x"}, 422, "invalid-request", "targets.0"),
    ({"label": "x", "prompt": "a car", "token": "foreign"}, 422, "invalid-request", "targets.0"),
    ({"label": "x", "prompt": "a car", "occurrence": 0}, 422, "invalid-request", "targets.0"),
    ({"label": "x", "prompt": "a car", "word": "car", "occurrence": -1}, 422, "invalid-request", "targets.0.occurrence"),
    ({"label": "x", "prompt": "a car", "class_name": "car"}, 422, "invalid-request", "targets.0"),
    ({"label": "x", "prompt": "a car", "rows": [0]}, 422, "invalid-request", "targets.0"),
    ({"label": "x", "prompt": "a car", "words": "car"}, 422, "invalid-request", "targets.0.words"),
    (EMBEDDING | {"embedding": [[0.0] * 8, [0.0] * 7]}, 422, "invalid-request", "targets.0"),
    (EMBEDDING | {"embedding": [[0.0] * 8]}, 422, "invalid-request", "targets.0"),
    (EMBEDDING | {"embedding": []}, 422, "invalid-request", "targets.0.embedding"),
    (EMBEDDING | {"rows": [2]}, 422, "invalid-request", "targets.0"),
    (EMBEDDING | {"rows": [-1]}, 422, "invalid-request", "targets.0"),
    (EMBEDDING | {"rows": []}, 422, "invalid-request", "targets.0.rows"),
    (EMBEDDING | {"embedding": [[0.0] * 9] * 2}, 422, "embedding-of-other-width", "targets.0.embedding"),
    (EMBEDDING | {"embedding": [[]] * 2}, 422, "embedding-of-other-width", "targets.0.embedding"),
    (EMBEDDING | {"embedding": [[0.0] * 7 + [float("nan")]] * 2}, 422, "embedding-not-finite", "targets.0.embedding"),
    (EMBEDDING | {"embedding": [[0.0] * 7 + [float("-inf")]] * 2}, 422, "embedding-not-finite", "targets.0.embedding"),
    (EMBEDDING | {"embedding": [[0.0] * 7 + [1e39]] * 2}, 422, "embedding-not-finite", "targets.0.embedding"),
    (CAR | {"settings": {"alpha": 2}}, 422, "invalid-request", "targets.0.settings.alpha"),
    (CAR | {"settings": {"refine": "none", "alpha": 0.5}}, 422, "invalid-request", "targets.0.settings"),
    (CAR | {"settings": {"blocks": [99]}}, 422, "selection-invalid", "targets.0.settings.blocks"),
    (CAR | {"settings": {"refine": "both"}}, 422, "no-self-attention", "targets.0.settings.refine"),
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
    await worker.publish_token(token("pets", classes=("cat", "dog")))
    before = await traces()
    assert_problem(await post(client, {"job_id": generated, "targets": [target]}), status, code, field)
    assert await traces() == before


BAD_OPTIONS = [
    ({"method": "sam"}, "invalid-request", "method"),
    ({"targets": []}, "invalid-request", "targets"),
    ({"targets": [CAR | {"label": str(number)} for number in range(65)]}, "invalid-request", "targets"),
    ({"dcrf": True}, "invalid-request", "dcrf"),
    ({"padding": "some"}, "invalid-request", "padding"),
    ({"reduction": "max"}, "invalid-request", "reduction"),
    ({"refine": "dcrf"}, "invalid-request", "refine"),
    ({"alpha": 1.01}, "invalid-request", "alpha"),
    ({"alpha": float("nan")}, "invalid-request", "alpha"),
    ({"sign": 0}, "invalid-request", "sign"),
    ({"affinity_steps": 5}, "invalid-request", "affinity_steps"),
    ({"threshold": "mean"}, "invalid-request", "threshold"),
    ({"tau": 0}, "invalid-request", "body"),
    ({"tau": 1.5}, "invalid-request", "body"),
    ({"tau": -1, "threshold": "absolute"}, "invalid-request", "tau"),
    ({"tau": float("inf"), "threshold": "absolute"}, "invalid-request", "tau"),
    ({"normalize": "sum"}, "invalid-request", "normalize"),
    ({"crf": {"iterations": 0}}, "invalid-request", "crf.CrfSettings.iterations"),
    ({"crf": {"bilateral_weight": float("nan")}}, "invalid-request", "crf.CrfSettings.bilateral_weight"),
    ({"minimum_area": -1}, "invalid-request", "minimum_area"),
    ({"maps": ["pixel"]}, "invalid-request", "maps.0"),
    ({"maps": ["head", "head"]}, "invalid-request", "body"),
    ({"semantic": {"margin": 1.1}}, "invalid-request", "semantic.margin"),
    ({"semantic": {"margin": float("nan")}}, "invalid-request", "semantic.margin"),
    ({"instances": {"minimum_area": 0}}, "invalid-request", "instances.minimum_area"),
    ({"instances": {"connectivity": 6}}, "invalid-request", "instances.connectivity"),
    ({"threshold": "otsu", "tau": 0.5}, "invalid-request", "body"),
    ({"threshold": "otsu", "normalize": "max"}, "invalid-request", "body"),
    ({"threshold": "absolute", "tau": 2, "normalize": "max"}, "invalid-request", "body"),
    ({"refine": "none", "alpha": 0.5}, "invalid-request", "body"),
    ({"refine": "affinity", "sign": 1}, "invalid-request", "body"),
    ({"refine": "attention", "affinity_steps": 2}, "invalid-request", "body"),
    ({"method": "daam", "alpha": 0.5}, "settings-contradict", "alpha"),
    ({"method": "daam", "affinity_steps": 2}, "settings-contradict", "affinity_steps"),
    ({"threshold": "absolute"}, "settings-contradict", "threshold"),
    ({"method": "ovam"}, "no-self-attention", "method"),
    ({"refine": "attention"}, "no-self-attention", "refine"),
    ({"alpha": 0.5}, "no-self-attention", "alpha"),
    ({"blocks": []}, "invalid-request", "blocks"),
    ({"blocks": ["up["]}, "invalid-request", "blocks.0"),
    ({"blocks": [64]}, "selection-invalid", "blocks"),
    ({"blocks": ["up", "side"]}, "selection-invalid", "blocks"),
    ({"evaluations": 30}, "selection-invalid", "evaluations"),
    ({"evaluations": [0, -31]}, "selection-invalid", "evaluations"),
    ({"evaluations": {"start": 30}}, "selection-invalid", "evaluations"),
    ({"evaluations": {"start": 3, "stop": 3}}, "selection-invalid", "evaluations"),
    ({"evaluations": []}, "invalid-request", "evaluations"),
    ({"evaluations": 1.5}, "invalid-request", "evaluations"),
    ({"evaluations": {"step": 0}}, "invalid-request", "evaluations"),
    ({"heads": 2}, "selection-invalid", "heads"),
    ({"heads": {"start": 2}}, "selection-invalid", "heads"),
    ({"heads": 0.5}, "invalid-request", "heads"),
]


@pytest.mark.parametrize(("options", "code", "field"), BAD_OPTIONS, ids=[str(options)[:60] for options, _, _ in BAD_OPTIONS])
async def test_a_bad_option_is_refused_and_leaves_no_trace(
    client: httpx2.AsyncClient, generated: str, traces: Traces, options: Json, code: str, field: str
) -> None:
    before = await traces()
    found = assert_problem(await post(client, {"job_id": generated, "targets": [CAR], **options}), 422, code)
    named = [error["field"] for error in found["errors"]]
    assert any(name == field or name.startswith(f"{field}.") for name in named), named
    assert await traces() == before


@pytest.mark.parametrize("options", [{}, {"method": "ovam"}, {"refine": "both", "affinity_steps": 2}, {"alpha": 0.5}])
async def test_refinement_needs_a_job_that_kept_self_attention(
    client: httpx2.AsyncClient, worker: InTestWorker, options: Json
) -> None:
    answers = []
    for kept in (True, False):
        asked = await client.post("/v1/generate", json={"prompt": "a car", "capture": {"self_attention": kept}})
        job_id = (await worker.end(asked.json()["id"])).id
        answers.append(await post(client, {"job_id": job_id, "targets": [CAR], **options}))
    assert answers[0].status_code == 202
    if not options:  # nobody asked for it, so it is left out
        assert answers[1].status_code == 202
        return
    assert '"self_attention": true' in assert_problem(answers[1], 422, "no-self-attention")["detail"]


async def test_the_methods_are_listed_with_their_settings(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    assert (await client.get("/v1/methods")).json() == {"methods": examples.METHODS}
    await worker.redis.delete(keys.METHODS)
    assert (await client.get("/v1/methods")).json() == {"methods": []}


async def test_without_the_methods_nothing_can_be_attributed_yet(
    client: httpx2.AsyncClient, generated: str, redis: Redis
) -> None:
    await redis.delete(keys.METHODS)
    assert_problem(await post(client, {"job_id": generated, "targets": [CAR]}), 503, "no-worker", "method")


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
