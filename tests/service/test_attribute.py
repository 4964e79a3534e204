import json
from dataclasses import asdict, replace
from datetime import timedelta

import httpx2
import pytest
from pydantic import TypeAdapter
from redis.asyncio import Redis

from contracts.schema.jobs import utc_now
from contracts.state import keys
from ovam.core.methods import METHODS, Method
from tests.service.in_test_worker import InTestWorker, card, token
from tests.service.serving import Json, Traces, assert_problem

METHOD = TypeAdapter(Method)
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


async def test_a_learned_token_gets_its_version_and_its_class(
    client: httpx2.AsyncClient, worker: InTestWorker, generated: str
) -> None:
    await worker.publish_token(token("car-1"), token("pets", classes=("cat", "dog")))
    body = {"job_id": generated, "targets": [{"token": "car-1"}, {"token": "pets", "class_name": "dog", "label": "it"}]}
    job = (await client.post("/v1/attribute", json=body)).json()["request"]
    targets = [(each["label"], each["target"]["token"], each["target"]["class_name"]) for each in job["targets"]]
    assert targets == [("car", "car-1@1", "car"), ("it", "pets@1", "dog")]  # the versions that are the newest now


async def test_nothing_is_left_open_in_the_job(client: httpx2.AsyncClient, generated: str) -> None:
    targets = [{"word": "wheel"}, {"prompt": "a red car"}, {"prompt": "a red car", "word": "car", "label": "it"}, EMBEDDING]
    body = {"job_id": generated, "image": 1, "targets": targets, "settings": {"heads": 0}, "method": "daam"}
    answer = await client.post("/v1/attribute", json=body)
    assert answer.status_code == 202, answer.text
    job = answer.json()["request"]
    assert (job["kind"], job["job_id"], job["image"], job["model"]) == ("attribute", generated, 1, "tiny")
    assert [target["label"] for target in job["targets"]] == ["wheel", "a red car", "it", "row"]
    assert [target["target"].get("prompt") for target in job["targets"]] == ["a photograph of a wheel", *["a red car"] * 2, None]
    assert job["targets"][3]["target"]["rows"] == [1]
    for target, published in zip(job["targets"], [METHODS["daam"].words] * 3 + [METHODS["daam"].tokens], strict=True):
        assert target["method"] == "daam"
        assert target["settings"] == json.loads(json.dumps(asdict(replace(published, heads=0))))


async def test_every_setting_can_be_given_for_the_request_and_for_a_target(client: httpx2.AsyncClient, generated: str) -> None:
    settings = {
        "padding": "max_length", "reduction": "sum", "blocks": ["up", 8], "evaluations": {"start": -5}, "heads": [0, -1],
        "refine": {"kind": "none"}, "threshold": {"kind": "share", "tau": 0.3, "normalize": "minmax"}, "crf": {"iterations": 2},
        "minimum_area": 9, "fill_holes": True,
    }  # fmt: skip
    more = {"maps": ["block", "head"], "semantic": {"least_gap": 0.1, "labels": [7, 254]}, "instances": {"connectivity": 4}}
    body = {
        "job_id": generated,
        "targets": [CAR | {"settings": settings}, EMBEDDING],
        "settings": settings,
        "method": "attn2mask",
    }
    answer = await client.post("/v1/attribute", json=body | more)
    assert answer.status_code == 202, answer.text
    job = answer.json()["request"]
    assert job["targets"][0]["settings"]["crf"]["iterations"] == 2
    assert job["targets"][0]["settings"] == job["targets"][1]["settings"]
    assert more["semantic"] == job["semantic"]


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
    ({"label": "x", "prompt": "a car", "class_name": "car"}, 422, "invalid-request", "targets.0.class_name"),
    ({"label": "x", "prompt": "a car", "rows": [0]}, 422, "invalid-request", "targets.0.rows"),
    ({"label": "x", "token": "car", "word": "car"}, 422, "invalid-request", "targets.0"),
    ({"token": "Car"}, 422, "invalid-request", "targets.0.token"),
    ({"token": "car", "rows": [0]}, 422, "invalid-request", "targets.0.rows"),
    ({"embedding": [[0.0] * 8] * 2}, 422, "invalid-request", "targets.0.label"),
    ({"word": "long" * 20}, 422, "prompt-too-long", "targets.0.word"),
    ("car", 422, "invalid-request", "targets.0"),
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
    (CAR | {"settings": {"blocks": [99]}}, 422, "selection-invalid", "targets.0.settings.blocks"),
    (CAR | {"settings": {"refine": {"kind": "both"}}}, 422, "no-self-attention", "targets.0.settings.refine"),
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


BAD_SETTINGS = [
    ({"dcrf": True}, "dcrf"),
    ({"padding": "some"}, "padding"),
    ({"reduction": "max"}, "reduction"),
    ({"refine": {"kind": "attention", "alpha": 1.01}}, "refine.alpha"),
    ({"refine": {"kind": "attention", "alpha": float("nan")}}, "refine.alpha"),
    ({"refine": {"kind": "both", "sign": 0}}, "refine.sign"),
    ({"refine": {"kind": "affinity", "steps": 5}}, "refine.steps"),
    ({"refine": {"kind": "affinity", "alpha": 0.5}}, "refine.alpha"),
    ({"refine": {"kind": "none", "steps": 1}}, "refine.steps"),
    ({"refine": "both"}, "refine"),
    ({"refine": {"kind": "crf"}}, "refine"),
    ({"refine": {"alpha": 0.5}}, "refine"),
    ({"threshold": {"kind": "share", "tau": 0}}, "threshold.tau"),
    ({"threshold": {"kind": "share", "tau": 1.5}}, "threshold.tau"),
    ({"threshold": {"kind": "share", "normalize": "sum"}}, "threshold.normalize"),
    ({"threshold": {"kind": "absolute", "level": -1}}, "threshold.level"),
    ({"threshold": {"kind": "absolute", "level": float("inf")}}, "threshold.level"),
    ({"threshold": {"kind": "absolute"}}, "threshold.level"),
    ({"threshold": {"kind": "absolute", "level": 1, "tau": 1}}, "threshold.tau"),
    ({"threshold": {"kind": "otsu", "tau": 0.5}}, "threshold.tau"),
    ({"threshold": {"kind": "mean"}}, "threshold"),
    ({"threshold": 0.4}, "threshold"),
    ({"crf": {"iterations": 0}}, "crf.iterations"),
    ({"crf": {"bilateral_weight": float("nan")}}, "crf.bilateral_weight"),
    ({"crf": True}, "crf"),
    ({"minimum_area": -1}, "minimum_area"),
    ({"blocks": []}, "blocks"),
    ({"blocks": ["up["]}, "blocks"),
    ({"evaluations": []}, "evaluations"),
    ({"evaluations": 1.5}, "evaluations"),
    ({"evaluations": {"step": 0}}, "evaluations"),
    ({"evaluations": {"from": 0}}, "evaluations"),
    ({"heads": -0.5}, "heads"),
]


@pytest.mark.parametrize(("changes", "field"), BAD_SETTINGS, ids=[str(changes)[:60] for changes, _ in BAD_SETTINGS])
async def test_a_bad_setting_is_refused_by_its_path_in_the_request(
    client: httpx2.AsyncClient, generated: str, changes: Json, field: str
) -> None:
    for body, prefix in (
        ({"targets": [CAR], "settings": changes}, "settings"),
        ({"targets": [EMBEDDING, CAR | {"settings": changes}]}, "targets.1.settings"),
    ):
        found = assert_problem(await post(client, {"job_id": generated, **body}), 422, "invalid-request")
        assert [error["field"] for error in found["errors"]] == [f"{prefix}.{field}"]


@pytest.mark.parametrize(
    ("threshold", "detail"),
    [
        ({"tau": 0.4}, "`kind` is missing; allowed: share, absolute, otsu"),
        ({"kind": "otsus"}, "`kind` is 'otsus'; allowed: share, absolute, otsu (did you mean 'otsu'?)"),
        ({"kind": ["share"]}, "`kind` is ['share']; allowed: share, absolute, otsu"),
        (0.4, "`kind` is missing; allowed: share, absolute, otsu"),
    ],
)
async def test_the_error_of_a_tag_says_which_there_are(
    client: httpx2.AsyncClient, generated: str, threshold: object, detail: str
) -> None:
    answer = await post(client, {"job_id": generated, "targets": [CAR], "settings": {"threshold": threshold}})
    (error,) = assert_problem(answer, 422, "invalid-request", "settings.threshold")["errors"]
    assert error["detail"] == detail


@pytest.mark.parametrize(("name", "hint"), [("oavm", "'ovam'"), ("DAAM", "'daam'"), ("attn2masks", "'attn2mask'"), ("sam2x", "")])
async def test_the_name_of_no_method_is_refused_with_the_one_that_is_close(
    client: httpx2.AsyncClient, generated: str, name: str, hint: str
) -> None:
    answer = await post(client, {"job_id": generated, "targets": [CAR], "method": name})
    detail = assert_problem(answer, 422, "invalid-request", "method")["errors"][0]["detail"]
    assert detail.startswith(f"there is no method {name!r}; allowed: ovam, daam, attn2mask")
    assert detail.endswith(f" (did you mean {hint}?)" if hint else "datasetdm-published")


BAD_OPTIONS = [
    ({"targets": []}, "invalid-request", "targets"),
    ({"targets": [CAR] * 65}, "invalid-request", "targets"),
    ({"tau": 0.4}, "invalid-request", "tau"),
    ({"maps": ["pixel"]}, "invalid-request", "maps.0"),
    ({"maps": ["head", "head"]}, "invalid-request", "maps"),
    ({"semantic": {"least_gap": 1.1}}, "invalid-request", "semantic.least_gap"),
    ({"semantic": {"least_gap": float("nan")}}, "invalid-request", "semantic.least_gap"),
    ({"semantic": {"labels": [255]}}, "invalid-request", "semantic.labels.0"),
    ({"semantic": {"labels": [0]}}, "invalid-request", "semantic.labels.0"),
    ({"semantic": {"labels": [1, 2]}}, "invalid-request", "body"),
    ({"targets": [CAR, CAR], "semantic": {"labels": [7, 7]}}, "invalid-request", "body"),
    ({"instances": {"minimum_area": 0}}, "invalid-request", "instances.minimum_area"),
    ({"instances": {"connectivity": 6}}, "invalid-request", "instances.connectivity"),
    ({"method": "ovam"}, "no-self-attention", "method"),
    ({"settings": {"refine": {"kind": "attention"}}}, "no-self-attention", "settings.refine"),
    ({"settings": {"blocks": [64]}}, "selection-invalid", "settings.blocks"),
    ({"settings": {"blocks": ["up", "side"]}}, "selection-invalid", "settings.blocks"),
    ({"settings": {"evaluations": 30}}, "selection-invalid", "settings.evaluations"),
    ({"settings": {"evaluations": [0, -31]}}, "selection-invalid", "settings.evaluations"),
    ({"settings": {"evaluations": {"start": 30}}}, "selection-invalid", "settings.evaluations"),
    ({"settings": {"evaluations": {"start": 3, "stop": 3}}}, "selection-invalid", "settings.evaluations"),
    ({"settings": {"heads": 2}}, "selection-invalid", "settings.heads"),
    ({"settings": {"heads": {"start": 2}}}, "selection-invalid", "settings.heads"),
]


@pytest.mark.parametrize(("options", "code", "field"), BAD_OPTIONS, ids=[str(options)[:60] for options, _, _ in BAD_OPTIONS])
async def test_a_bad_option_is_refused_and_leaves_no_trace(
    client: httpx2.AsyncClient, generated: str, traces: Traces, options: Json, code: str, field: str
) -> None:
    before = await traces()
    assert_problem(await post(client, {"job_id": generated, "targets": [CAR], **options}), 422, code, field)
    assert await traces() == before


@pytest.mark.parametrize("options", [{}, {"method": "ovam"}, {"settings": {"refine": {"kind": "both", "steps": 2}}}])
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


async def test_the_methods_are_listed_with_their_settings_worker_or_none(client: httpx2.AsyncClient) -> None:
    found = (await client.get("/v1/methods")).json()["methods"]
    assert [method["name"] for method in found] == sorted(METHODS)
    for method in found:
        published = METHODS[method["name"]]
        assert method["source"] == published.source
        assert METHOD.validate_python(method["words"]) == published.words
        assert METHOD.validate_python(method["tokens"]) == published.tokens


async def test_the_refusal_of_a_word_names_the_prompt(client: httpx2.AsyncClient, generated: str) -> None:
    target = {"label": "x", "prompt": "a house by the sea", "word": "car"}
    answer = await client.post("/v1/attribute", json={"job_id": generated, "targets": [target]})
    assert "'a house by the sea'" in assert_problem(answer, 422, "word-not-in-prompt")["detail"]


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


async def test_a_job_whose_model_is_no_longer_served_is_refused(
    client: httpx2.AsyncClient, worker: InTestWorker, generated: str, redis: Redis
) -> None:
    await redis.hdel(keys.MODELS, "tiny")
    answer = await client.post("/v1/attribute", json={"job_id": generated, "targets": [CAR]})
    assert_problem(answer, 503, "no-worker")
    await worker.publish(card("other", default=False))
    answer = await client.post("/v1/attribute", json={"job_id": generated, "targets": [CAR]})
    assert_problem(answer, 404, "unknown-model", "job_id")
