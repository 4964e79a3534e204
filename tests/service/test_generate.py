import base64
from io import BytesIO
from typing import Any

import httpx2
import pytest
from PIL import Image
from tokenizers.processors import TemplateProcessing

from contracts.schema.attribute import FilledQuestion
from contracts.schema.images import GenerateJob, GenerateRequest
from contracts.state import keys
from service.validation.conditions import Pictures
from tests.service.in_test_worker import END, START, InTestWorker, card, letters, token
from tests.service.serving import Json, Traces, assert_problem


@pytest.mark.usefixtures("worker")
async def test_a_job_is_accepted_with_its_place_and_a_complete_request(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/generate", json={"prompt": "a red car"})
    record = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{record['id']}"
    assert answer.headers["retry-after"] == "1"
    assert (record["state"], record["kind"], record["attempt"]) == ("queued", "generate", 0)
    request = GenerateJob.model_validate(record["request"])
    assert (request.model, request.height, request.width, request.guidance_scale) == ("tiny", 64, 48, 5.0)
    assert (request.scheduler, request.capture.self_attention) == ("DDIMScheduler", False)
    assert request.seed is not None


async def test_an_answer_that_was_not_waited_for_or_came_too_late_is_202(
    client: httpx2.AsyncClient, worker: InTestWorker
) -> None:
    asked = {"json": {"prompt": "a red car"}, "headers": {"Idempotency-Key": "mine"}}
    await worker.end((await client.post("/v1/generate", **asked)).json()["id"])
    again = await client.post("/v1/generate", **asked)
    assert (again.status_code, again.json()["state"], again.headers["retry-after"]) == (202, "succeeded", "1")
    assert "preference-applied" not in again.headers
    late = await client.post("/v1/generate", json={"prompt": "a car"}, headers={"Prefer": "wait=1"})
    assert (late.status_code, late.json()["state"], late.headers["preference-applied"]) == (202, "queued", "wait")


@pytest.mark.usefixtures("worker")
async def test_a_random_seed_is_drawn_anew_for_every_job(client: httpx2.AsyncClient) -> None:
    answers = [await client.post("/v1/generate", json={"prompt": "a car"}) for _ in range(2)]
    assert len({answer.json()["request"]["seed"] for answer in answers}) == 2


async def test_what_the_client_says_is_kept(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    await worker.publish(card("other", default=False))
    said = {"prompt": "a car", "seed": 7, "height": 32, "width": 80, "guidance_scale": 0, "model": "other", "num_images": 2}
    answer = await client.post("/v1/generate", json=said)
    assert said.items() <= answer.json()["request"].items()


CAPTURE = {
    "keep": "queries",
    "precision": "int8",
    "branch": "unconditional",
    "blocks": ["mid", 8],
    "mid_block": True,
    "evaluations": {"start": -5, "stop": None, "step": 2},
    "heads": [0, -1],
    "self_attention": True,
}


@pytest.mark.usefixtures("worker")
async def test_every_choice_of_what_is_kept_is_kept_in_the_record(client: httpx2.AsyncClient) -> None:
    said = {"prompt": "a car", "scheduler": "EulerDiscreteScheduler", "capture": CAPTURE}
    answer = await client.post("/v1/generate", json=said)
    assert answer.status_code == 202, answer.text
    assert said.items() <= answer.json()["request"].items()


KEPT = [
    ("queries", {}, ("queries", "float16", False)),
    ("queries", {"precision": "int8", "self_attention": True}, ("queries", "int8", True)),
    ("queries", {"keep": "replay"}, ("replay", None, True)),
    ("replay", {}, ("replay", None, True)),
    ("replay", {"keep": "queries", "precision": "bfloat16"}, ("queries", "bfloat16", False)),
]


@pytest.mark.parametrize(("default", "capture", "expected"), KEPT, ids=str)
async def test_what_is_kept_is_the_requests_choice_or_else_the_deployments(
    client: httpx2.AsyncClient, worker: InTestWorker, default: str, capture: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    await worker.publish(card().model_copy(update={"default_keep": default}))
    found = (await client.post("/v1/generate", json={"prompt": "a car", "capture": capture})).json()["request"]["capture"]
    assert (found["keep"], found["precision"], found["self_attention"]) == expected


async def test_a_precision_of_queries_that_are_not_kept_is_refused(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    await worker.publish(card().model_copy(update={"default_keep": "replay"}))
    for capture in ({"precision": "int8"}, {"keep": "replay", "precision": "float16"}):
        answer = await client.post("/v1/generate", json={"prompt": "a car", "capture": capture})
        assert "no queries are kept" in assert_problem(answer, 422, "settings-contradict", "capture.precision")["detail"]
    answer = await client.post("/v1/generate", json={"prompt": "a car", "capture": {"keep": "everything"}})
    assert_problem(answer, 422, "invalid-request", "capture.keep")


@pytest.mark.parametrize("keep", ["replay", "queries"])
async def test_a_request_asked_for_again_as_its_record_has_it_is_the_same_job(
    client: httpx2.AsyncClient, worker: InTestWorker, keep: str
) -> None:
    await worker.publish(card().model_copy(update={"default_self_attention": True, "default_keep": keep}))
    first = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["request"]
    again = {name: value for name, value in first.items() if name in GenerateRequest.model_fields}
    second = (await client.post("/v1/generate", json=again)).json()["request"]
    assert first == second
    assert first["capture"]["self_attention"] is True


async def test_a_resolution_is_that_of_the_images_own_size(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    await worker.publish(card())
    body = {"prompt": "a car", "height": 64, "width": 128, "capture": {"blocks": [16]}}
    assert (await client.post("/v1/generate", json=body)).status_code == 202
    found = assert_problem(
        await client.post("/v1/generate", json=body | {"width": 48}), 422, "selection-invalid", "capture.blocks"
    )
    assert found["detail"] == (
        "capture.blocks is 16; allowed: a resolution of 8, 4, or a part of a block's name; "
        "names begin with down_blocks.0, up_blocks.0"
    )


async def test_a_model_that_is_told_its_guidance_has_no_unconditional_branch(
    client: httpx2.AsyncClient, worker: InTestWorker
) -> None:
    await worker.publish(card().model_copy(update={"guidance_embedded": True}))
    body = {"prompt": "a car", "guidance_scale": 8, "capture": {"branch": "unconditional"}}
    assert_problem(await client.post("/v1/generate", json=body), 422, "settings-contradict", "capture.branch")


@pytest.mark.usefixtures("worker")
async def test_the_task_is_queued_under_the_jobs_id(client: httpx2.AsyncClient, traces: Traces) -> None:
    await client.post("/v1/generate", json={"prompt": "a car"})
    assert await traces() == (1, 1, 1, 1)


OTHER_BRANCH = {"branch": "unconditional"}
BAD = [
    ({"prompt": "a car", "model": "sd99"}, 404, "unknown-model", "model"),
    ({"prompt": "a car", "height": 65}, 422, "size-not-divisible", "height"),
    ({"prompt": "a car", "width": 40}, 422, "size-not-divisible", "width"),
    ({"prompt": "a car", "height": 1040}, 422, "size-too-large", "height"),
    ({"prompt": "a car", "width": 2**40}, 422, "size-too-large", "width"),
    ({"prompt": "a car", "num_inference_steps": 151}, 422, "too-many-steps", "num_inference_steps"),
    ({"prompt": "a car", "num_images": 9}, 422, "too-many-images", "num_images"),
    ({"prompt": "long " * 20}, 422, "prompt-too-long", "prompt"),
    ({"prompt": "a car", "negative_prompt": "long " * 20}, 422, "prompt-too-long", "negative_prompt"),
    ({"prompt": "a car", "scheduler": "PNDMScheduler"}, 422, "unknown-scheduler", "scheduler"),
    ({"prompt": "a car", "scheduler": ""}, 422, "unknown-scheduler", "scheduler"),
    ({"prompt": "a car", "scheduler": "S" * 65}, 422, "invalid-request", "scheduler"),
    (
        {"prompt": "a car", "guidance_scale": 1, "capture": {"branch": "unconditional"}},
        422,
        "settings-contradict",
        "capture.branch",
    ),
    ({"prompt": "a car", "capture": {"branch": "both"}}, 422, "invalid-request", "capture.branch"),
    ({"prompt": "a car", "capture": {"blocks": ["left"]}}, 422, "selection-invalid", "capture.blocks"),
    ({"prompt": "a car", "capture": {"blocks": ["up", 64]}}, 422, "selection-invalid", "capture.blocks"),
    ({"prompt": "a car", "capture": {"blocks": ["mid_block"]}}, 422, "selection-invalid", "capture.blocks"),
    ({"prompt": "a car", "capture": {"blocks": []}}, 422, "invalid-request", "capture.blocks"),
    ({"prompt": "a car", "capture": {"heads": 2}}, 422, "selection-invalid", "capture.heads"),
    ({"prompt": "a car", "capture": {"heads": [0, -3]}}, 422, "selection-invalid", "capture.heads"),
    ({"prompt": "a car", "capture": {"heads": {"start": 1, "stop": 1}}}, 422, "selection-invalid", "capture.heads"),
    ({"prompt": "a car", "capture": {"evaluations": [0, 999]}}, 422, "selection-invalid", "capture.evaluations"),
    ({"prompt": "a car", "capture": {"evaluations": {"start": 5, "stop": 2}}}, 422, "selection-invalid", "capture.evaluations"),
    ({"prompt": "a car", "capture": {"evaluations": 1.5}}, 422, "invalid-request", "capture.evaluations"),
    ({"prompt": "a car", "capture": {"evaluations": {"from": 1}}}, 422, "invalid-request", "capture.evaluations"),
    ({"prompt": "a car", "capture": {"heads": []}}, 422, "invalid-request", "capture.heads"),
    ({"prompt": "a car", "capture": {"blocks": ["up", "[a-z]"]}}, 422, "invalid-request", "capture.blocks"),
    ({"prompt": "a car", "num_inference_steps": 1001}, 422, "invalid-request", "num_inference_steps"),
    ({"prompt": "a car", "num_inference_steps": 0}, 422, "invalid-request", "num_inference_steps"),
    ({"prompt": "a car", "num_images": 0}, 422, "invalid-request", "num_images"),
    ({"prompt": "a car", "seed": -1}, 422, "invalid-request", "seed"),
    ({"prompt": "a car", "seed": 2**80}, 422, "invalid-request", "seed"),
    ({"prompt": "a car", "guidance_scale": "much"}, 422, "invalid-request", "guidance_scale"),
    ({"prompt": " "}, 422, "invalid-request", "prompt"),
    ({}, 422, "invalid-request", "prompt"),
    ({"prompt": "a car", "steps": 3}, 422, "invalid-request", "steps"),
    ([], 422, "invalid-request", "body"),
]


@pytest.mark.parametrize(("body", "status", "code", "field"), BAD)
@pytest.mark.usefixtures("worker")
async def test_a_bad_request_is_refused_with_a_code_of_its_own_and_leaves_no_trace(
    client: httpx2.AsyncClient, traces: Traces, body: object, status: int, code: str, field: str
) -> None:
    assert_problem(await client.post("/v1/generate", json=body), status, code, field)
    assert await traces() == (0, 0, 0, 0)


@pytest.mark.usefixtures("worker")
async def test_a_refusal_names_the_value_and_what_is_allowed(client: httpx2.AsyncClient) -> None:
    found = assert_problem(await client.post("/v1/generate", json={"prompt": "a car", "num_images": 9}), 422, "too-many-images")
    assert found["errors"] == [{"field": "num_images", "detail": "`num_images` is 9; allowed: at most 8", "value": 9}]


@pytest.mark.usefixtures("worker")
async def test_the_prompts_limit_counts_the_marks(client: httpx2.AsyncClient) -> None:
    fits = "a" * 38
    assert (await client.post("/v1/generate", json={"prompt": fits})).status_code == 202
    found = assert_problem(await client.post("/v1/generate", json={"prompt": fits + "a"}), 422, "prompt-too-long")
    assert "41 tokens" in found["detail"]
    assert "40" in found["detail"]


async def test_without_any_model_there_is_no_worker(client: httpx2.AsyncClient, traces: Traces) -> None:
    answer = await client.post("/v1/generate", json={"prompt": "a car"})
    assert_problem(answer, 503, "no-worker")
    assert answer.headers["retry-after"]
    assert await traces() == (0, 0, 0, 0)


@pytest.mark.parametrize("spoil", ["cut", "padded"])
async def test_a_prompt_is_measured_whole_and_bare_whatever_the_tokenizer_does_by_itself(
    client: httpx2.AsyncClient, worker: InTestWorker, spoil: str
) -> None:
    tokenizer = letters()
    if spoil == "cut":
        tokenizer.enable_truncation(20)
    else:
        tokenizer.enable_padding(length=60)
    await worker.redis.hset(keys.TOKENIZERS, "tiny", tokenizer.to_str())
    assert (await client.post("/v1/generate", json={"prompt": "a car"})).status_code == 202
    assert_problem(await client.post("/v1/generate", json={"prompt": "a" * 39}), 422, "prompt-too-long")


async def test_a_model_whose_tokenizer_is_not_there_yet_cannot_be_asked_for_yet(
    client: httpx2.AsyncClient, worker: InTestWorker
) -> None:
    await worker.redis.delete(keys.TOKENIZERS)
    answer = await client.post("/v1/generate", json={"prompt": "a car"})
    assert_problem(answer, 503, "no-worker")
    assert answer.headers["retry-after"]


async def test_without_a_default_a_model_must_be_named(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    await worker.publish(card("tiny", default=False), card("other", default=False))
    found = assert_problem(await client.post("/v1/generate", json={"prompt": "a car"}), 404, "unknown-model", "model")
    assert "other, tiny" in found["detail"]


@pytest.mark.usefixtures("redis")
async def test_a_model_that_changes_its_tokenizer_is_noticed(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    assert (await client.post("/v1/generate", json={"prompt": "a" * 30})).status_code == 202
    await worker.publish(card().model_copy(update={"max_tokens": 20}))
    assert_problem(await client.post("/v1/generate", json={"prompt": "a" * 30}), 422, "prompt-too-long")


async def test_a_tokenizer_that_changes_alone_is_noticed(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    assert (await client.post("/v1/generate", json={"prompt": "a" * 30})).status_code == 202
    tokenizer = letters()
    tokenizer.post_processor = TemplateProcessing(single=f"{START} $A {END} {END} {END}", special_tokens=[(START, 1), (END, 2)])
    await worker.redis.hset(keys.TOKENIZERS, "tiny", tokenizer.to_str())
    found = assert_problem(await client.post("/v1/generate", json={"prompt": "a" * 37}), 422, "prompt-too-long")
    assert "41 tokens" in found["detail"]


LIMITS = {"num_inference_steps": 150, "num_images": 8, "height": 1024, "width": 1024}


@pytest.mark.parametrize("field", LIMITS)
@pytest.mark.usefixtures("worker")
async def test_what_is_at_its_limit_is_allowed(client: httpx2.AsyncClient, field: str) -> None:
    assert (await client.post("/v1/generate", json={"prompt": "a car", field: LIMITS[field]})).status_code == 202


SAID = [
    ({}, {"field": "prompt", "detail": "Field required"}),
    (
        {"prompt": "a car", "num_images": 0},
        {"field": "num_images", "detail": "Input should be greater than or equal to 1", "value": 0},
    ),
    ({"prompt": "é" * 5000}, {"field": "prompt", "value": "é" * 200 + "..."}),
]


@pytest.mark.parametrize(("body", "said"), SAID, ids=["missing", "too small", "too long"])
@pytest.mark.usefixtures("worker")
async def test_an_invalid_request_says_what_is_wrong_with_which_value(client: httpx2.AsyncClient, body: Json, said: Json) -> None:
    (error,) = assert_problem(await client.post("/v1/generate", json=body), 422, "invalid-request")["errors"]
    assert said == {name: error[name] for name in error if name in said or name == "value"}


LOOKING: Json = {
    "targets": [{"word": "wheel"}, {"prompt": "a red car", "word": "car", "settings": {"evaluations": [-1]}}, {"token": "car"}],
    "method": "daam",
    "settings": {"threshold": {"kind": "share", "tau": 0.7, "normalize": "max"}},
    "softmax": "together",
    "distractors": [{"word": "sky"}],
    "maps": ["block"],
    "semantic": {"labels": [7, 8, 9]},
    "instances": {"most": 3},
}


async def test_targets_are_filled_in_as_an_attribute_job_has_them(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    await worker.publish_token(token("car"))
    gate = {"target": "car", "min_area": 0.1, "max_area": 1.0, "at": 0.3, "on_fail": "stop", "seeds": 4}
    targets = [*LOOKING["targets"][:2], LOOKING["targets"][2] | {"label": "learned"}]
    asked = {"prompt": "a car", **LOOKING, "targets": targets, "every": 2, "gate": gate}
    answer = await client.post("/v1/generate", json=asked)
    assert answer.status_code == 202, answer.text
    source = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
    await worker.end(source)
    other = await client.post("/v1/attribute", json={"job_id": source, **LOOKING, "targets": targets})
    assert other.status_code == 202, other.text
    here, there = answer.json()["request"], other.json()["request"]
    assert {name: here[name] for name in FilledQuestion.model_fields} == {
        name: there[name] for name in FilledQuestion.model_fields
    }
    assert (here["every"], here["gate"]) == (2, gate)


@pytest.mark.usefixtures("worker")
async def test_an_image_to_start_from_is_stored_and_one_of_a_job_is_found(
    client: httpx2.AsyncClient, worker: InTestWorker, generated: str
) -> None:
    buffer = BytesIO()
    Image.new("RGB", (80, 32)).save(buffer, "PNG")
    brought = base64.b64encode(buffer.getvalue()).decode()
    answer = await client.post("/v1/generate", json={"prompt": "a car", "image": brought, "height": 32})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["request"]["height"], answer.json()["request"]["width"]) == (32, 80)
    assert await worker.store.get(keys.upload(answer.json()["id"])) == buffer.getvalue()
    named = {"prompt": "a car", "image": {"job_id": generated, "image": 1}}
    request = (await client.post("/v1/generate", json=named)).json()["request"]
    assert (request["height"], request["width"], request["image"]) == (64, 48, named["image"])
    absent = {"prompt": "a car", "image": {"job_id": generated, "image": 2}}
    problem = assert_problem(await client.post("/v1/generate", json=absent), 422, "image-index-out-of-range", "image.image")
    assert problem["errors"][0]["value"] == 2
    assert None not in problem.values()
    unmarked = named | {"mask": {"size": [64, 48], "counts": [64 * 48]}}
    assert_problem(await client.post("/v1/generate", json=unmarked), 422, "mask-empty", "mask")


def test_a_drawing_has_the_size_of_the_image_that_it_follows() -> None:
    request, sizes = GenerateRequest(prompt="a car"), {"image": (64, 48), "control.image": (32, 80)}
    for known, expected in (
        (sizes, (32, 80)),
        ({"image": (32, 80)}, (32, 64)),
        ({"control.image": (32, 80)}, (32, 80)),
        ({}, None),
    ):
        assert Pictures({}, known).size(request, card(), 1024) == expected


WHEEL = {"targets": [{"word": "wheel"}]}
REFUSED: list[tuple[Json, str, str]] = [
    ({"gate": {"target": "wheel", "min_area": 0.1}}, "invalid-request", "`gate` has no effect without `targets`"),
    ({"softmax": "together"}, "invalid-request", "`softmax` has no effect without `targets`"),
    (WHEEL | {"gate": {"target": "roof", "min_area": 0.1}}, "invalid-argument", "allowed: the label of one target: 'wheel'"),
    (WHEEL | {"gate": {"target": "wheel", "min_area": 0.5, "max_area": 0.4}}, "invalid-request", "above `max_area`"),
    (WHEEL | {"gate": {"target": "wheel"}}, "invalid-request", "which every image passes"),
    (WHEEL | {"seed": 2**63 - 64, "num_images": 8, "gate": {"target": "wheel", "min_area": 0.1, "seeds": 16}}, "invalid-request",
     "at most 9223372036854775680"),
    ({"targets": [{"word": "wheel"}] * 9}, "invalid-request", "targets"),
    ({"targets": [{"prompt": "a car", "word": "wheel"}]}, "word-not-in-prompt", "targets.0.word"),
    ({"targets": [{"token": "nobody"}]}, "unknown-token", "targets.0.token"),
    (WHEEL | {"settings": {"evaluations": [30]}}, "selection-invalid", "settings.evaluations"),
    (WHEEL | {"settings": {"blocks": ["nowhere"]}}, "selection-invalid", "settings.blocks"),
    (WHEEL | {"capture": {"keep": "queries", "self_attention": False}, "settings": {"refine": {"kind": "affinity"}}},
     "no-self-attention", "is not kept; set"),
]  # fmt: skip


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(("changed", "code", "said"), REFUSED)
async def test_targets_that_cannot_be_looked_for_are_refused_at_once(
    client: httpx2.AsyncClient, changed: Json, code: str, said: str
) -> None:
    answer = await client.post("/v1/generate", json={"prompt": "a car", **changed})
    assert answer.json()["code"] == code, answer.text
    assert said in answer.text
