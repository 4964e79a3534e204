import base64
import io

import httpx2
import pytest
from PIL import Image

from tests.service.in_test_worker import IMAGE, InTestWorker, card, token
from tests.service.serving import Json, Traces, assert_problem


def png(size: tuple[int, int] = (64, 48), *, box: tuple[int, int, int, int] | None = (8, 8, 24, 24)) -> str:
    """A PNG of (height, width) that is white inside a box (left, top, right, bottom)."""
    height, width = size
    image = Image.new("L", (width, height))
    if box:
        image.paste(255, box)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def grey(value: int) -> str:
    """A PNG of labels, 64 high and 48 wide: a box of one value, the rest 0."""
    image = Image.new("L", (48, 64))
    image.paste(value, (8, 8, 24, 24))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def asked(job_id: str, mask: object, name: str = "car-1") -> Json:
    return {"name": name, "classes": ["car"], "examples": [{"job_id": job_id, "mask": mask}]}


def broken() -> str:
    whole = base64.b64decode(png())
    return base64.b64encode(whole[: len(whole) // 2]).decode()


def bomb() -> str:
    """A header that promises 65535 x 65535 pixels."""
    whole = bytearray(base64.b64decode(png()))
    whole[16:24] = (65_535).to_bytes(4, "big") * 2
    return base64.b64encode(bytes(whole)).decode()


BAD_MASKS = [
    ("not base64!", "mask-not-an-image", ""),
    (broken(), "mask-not-an-image", ""),
    (bomb(), "image-too-large", ""),
    (png(box=None), "mask-empty", ""),
    (png(box=(0, 0, 48, 64)), "mask-full", ""),
    ({"size": [64, 48], "counts": "damaged"}, "mask-unreadable", ""),
    ({"size": [64, 48], "counts": [1, 2]}, "mask-unreadable", ""),
    ({"size": [64, 48], "counts": [3072.5]}, "invalid-request", ".counts"),
    ({"size": [1 << 20, 1 << 20], "counts": "0"}, "image-too-large", ""),
    ([[0, 0, 50, 0, 50, 9]], "mask-unreadable", ""),
    ([[0, 0, 9, 0, 9, 9, 9]], "mask-unreadable", ""),
    ([[1, 1, 1, 1, 1, 1]], "mask-empty", ""),
    ([[1, 1, 1, 1]], "invalid-request", ".0"),
    ({"size": [64, 48]}, "invalid-request", ".counts"),
    (7, "invalid-request", ""),
    ("", "invalid-request", ""),
]


@pytest.mark.parametrize(("mask", "code", "place"), BAD_MASKS, ids=range(len(BAD_MASKS)))
async def test_a_bad_mask_is_refused_and_leaves_no_trace(
    client: httpx2.AsyncClient, generated: str, traces: Traces, mask: object, code: str, place: str
) -> None:
    before = await traces()
    answer = await client.post("/v1/optimize", json=asked(generated, mask))
    assert_problem(answer, 422, code, f"examples.0.mask{place}")
    assert await traces() == before


async def test_labels_out_of_range_are_refused_and_leave_no_trace(
    client: httpx2.AsyncClient, generated: str, traces: Traces
) -> None:
    before = await traces()
    body = asked(generated, None) | {"examples": [{"job_id": generated, "labels": png()}]}  # white is 255: counts as nothing
    assert_problem(await client.post("/v1/optimize", json=body), 422, "mask-empty", "examples.0.labels")
    body["examples"][0]["labels"] = grey(2)
    found = assert_problem(await client.post("/v1/optimize", json=body), 422, "mask-unreadable", "examples.0.labels")
    assert "allowed: 0 to 1, and 255" in found["detail"]
    assert await traces() == before


ANNOTATIONS = [
    {"mask": {"size": [64, 48], "counts": [520, 16, 48, 16, 2472]}},
    {"mask": {"size": [64, 48], "counts": "X`0`0`100000000000000000000000000000h_1"}},
    {"mask": [[8, 8, 24, 8, 24, 24, 8, 24]]},
    {"mask": [[8, -0.4, 48.6, 8, 24, 24, 8, 24]]},
    {"masks": {"car": png()}},
    {"masks": {"car": png((128, 96))}},
    {"labels": grey(1)},
]


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=range(len(ANNOTATIONS)))
async def test_an_image_may_be_annotated_in_any_form(client: httpx2.AsyncClient, generated: str, annotation: Json) -> None:
    body = asked(generated, None) | {"examples": [{"job_id": generated, **annotation}]}
    answer = await client.post("/v1/optimize", json=body)
    assert answer.status_code == 202, answer.text


async def test_several_classes_are_learned_from_masks_or_labels_and_not_from_one_mask(
    client: httpx2.AsyncClient, generated: str
) -> None:
    two = asked(generated, None) | {"classes": ["car", "tree"]}
    masks = {"car": png(), "tree": png(box=(30, 30, 40, 50))}
    body = two | {"examples": [{"job_id": generated, "masks": masks}]}
    assert (await client.post("/v1/optimize", json=body)).status_code == 202
    for wrong in ({"mask": png()}, {"masks": {"house": png()}}, {"mask": png(), "labels": png()}, {}):
        body = two | {"examples": [{"job_id": generated, **wrong}]}
        assert_problem(await client.post("/v1/optimize", json=body), 422, "invalid-request")
    body = two | {"examples": [{"job_id": generated, "masks": {"car": png()}}]}
    assert_problem(await client.post("/v1/optimize", json=body), 422, "mask-empty", "classes.1")


async def test_a_name_that_is_in_use_may_be_learned_again(
    client: httpx2.AsyncClient, worker: InTestWorker, generated: str
) -> None:
    await worker.publish_token(token("car-1"))
    assert (await client.post("/v1/optimize", json=asked(generated, png()))).status_code == 202


INITIALS = [
    ({"token": "car"}, {"token": "car@2", "class_name": "car"}),
    ({"token": "pets@1", "class_name": "dog"}, {"token": "pets@1", "class_name": "dog"}),
    ({"word": "van"}, {"word": "van"}),
    ({"embedding": [0.5] * 8}, {"embedding": [0.5] * 8}),
    (None, {"word": "car"}),
]


@pytest.mark.parametrize(("given", "filled"), INITIALS, ids=range(len(INITIALS)))
async def test_every_class_has_an_initial_embedding_in_the_job_a_token_with_its_version(
    client: httpx2.AsyncClient, worker: InTestWorker, generated: str, given: Json | None, filled: Json
) -> None:
    await worker.publish_token(token("car"), token("car"), token("pets", classes=("cat", "dog")))
    answer = await client.post("/v1/optimize", json=asked(generated, png()) | {"initial": [given]})
    assert answer.json()["request"]["initial"] == [filled]


@pytest.mark.parametrize(
    ("given", "rate"), [({}, 0.1), ({"optimizer": "sgd"}, 100.0), ({"optimizer": "sgd", "learning_rate": 3}, 3.0)]
)
async def test_nothing_is_left_open_in_the_job(client: httpx2.AsyncClient, generated: str, given: Json, rate: float) -> None:
    job = (await client.post("/v1/optimize", json=asked(generated, png()) | given)).json()["request"]
    assert (job["kind"], job["model"], job["learning_rate"], job["initial"]) == ("optimize", "tiny", rate, [{"word": "car"}])
    assert job["schedule"] == {"every": 120, "factor": 0.7, "kind": "step"}


BAD_INITIALS = [
    ({"token": "nobody"}, 404, "unknown-token", "initial.0.token"),
    ({"token": "car@3"}, 404, "unknown-token", "initial.0.token"),
    ({"token": "foreign"}, 422, "token-of-other-model", "initial.0.token"),
    ({"token": "pets"}, 422, "unknown-class", "initial.0.class_name"),
    ({"token": "pets", "class_name": "cow"}, 422, "unknown-class", "initial.0.class_name"),
    ({"embedding": [0.5] * 7}, 422, "embedding-of-other-width", "initial.0.embedding"),
    ({"embedding": [1e39] * 8}, 422, "embedding-not-finite", "initial.0.embedding"),
    ({"word": "long" * 20}, 422, "prompt-too-long", "initial.0.word"),
    ({"word": "car", "token": "car"}, 422, "invalid-request", "initial.0"),
    ({"word": "car", "class_name": "car"}, 422, "invalid-request", "initial.0.class_name"),
    ({}, 422, "invalid-request", "initial.0"),
]


@pytest.mark.parametrize(("initial", "status", "code", "field"), BAD_INITIALS, ids=range(len(BAD_INITIALS)))
async def test_a_bad_initial_embedding_is_refused_and_leaves_no_trace(
    client: httpx2.AsyncClient,
    worker: InTestWorker,
    generated: str,
    traces: Traces,
    initial: Json,
    status: int,
    code: str,
    field: str,
) -> None:
    await worker.publish_token(token("car"), token("pets", classes=("cat", "dog")), token("foreign", model="other"))
    before = await traces()
    answer = await client.post("/v1/optimize", json=asked(generated, png()) | {"initial": [initial]})
    assert_problem(answer, status, code, field)
    assert await traces() == before


async def test_an_initial_embedding_is_needed_for_each_class_or_for_none(client: httpx2.AsyncClient, generated: str) -> None:
    body = asked(generated, png()) | {"initial": [None, None]}
    assert_problem(await client.post("/v1/optimize", json=body), 422, "invalid-request", "initial")
    assert (await client.post("/v1/optimize", json=body | {"initial": [None]})).status_code == 202


async def test_what_a_canceled_job_has_learned_so_far_can_be_fetched(
    client: httpx2.AsyncClient, worker: InTestWorker, generated: str
) -> None:
    job_id = (await client.post("/v1/optimize", json=asked(generated, png()))).json()["id"]
    await worker.begin(job_id)
    assert (await client.post(f"/v1/jobs/{job_id}/cancel")).json()["cancel_requested"]
    await worker.keep(job_id)
    record = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert (record["state"], record["result"]["ended"], record["result"]["token"]) == ("canceled", "canceled", "car@1")
    assert (await client.get(record["result"]["curve"]["url"])).content == IMAGE
    assert (await client.get("/v1/tokens/car@1")).status_code == 200
    assert (await client.delete(f"/v1/jobs/{job_id}")).status_code == 204
    assert (await client.get("/v1/tokens/car@1")).status_code == 200


async def test_examples_of_different_models_are_refused(client: httpx2.AsyncClient, worker: InTestWorker, generated: str) -> None:
    await worker.publish(card("other", default=False))
    job_id = (await client.post("/v1/generate", json={"prompt": "a car", "model": "other"})).json()["id"]
    await worker.end(job_id)
    body = asked(generated, png()) | {"examples": [{"job_id": each, "mask": png()} for each in (generated, job_id)]}
    assert_problem(await client.post("/v1/optimize", json=body), 422, "examples-of-other-models", "examples")


async def test_a_token_is_learned_on_the_model_of_its_examples(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    await worker.publish(card("other", default=False))
    body = {"prompt": "a car", "model": "other"}
    source = (await worker.end((await client.post("/v1/generate", json=body)).json()["id"])).id
    job = (await client.post("/v1/optimize", json=asked(source, png()))).json()["request"]
    assert job["model"] == "other"


@pytest.mark.parametrize(("field", "value"), [("blocks", ["left"]), ("evaluations", 99)])
async def test_a_selection_of_what_is_not_there_is_refused(
    client: httpx2.AsyncClient, generated: str, traces: Traces, field: str, value: object
) -> None:
    before = await traces()
    answer = await client.post("/v1/optimize", json=asked(generated, png()) | {field: value})
    assert_problem(answer, 422, "selection-invalid", field)
    assert await traces() == before


async def test_the_examples_job_must_be_a_generation_with_that_image(client: httpx2.AsyncClient, generated: str) -> None:
    image = {"job_id": generated, "image": 5, "mask": png()}
    body = asked(generated, png()) | {"examples": [image]}
    assert_problem(await client.post("/v1/optimize", json=body), 422, "image-index-out-of-range", "examples.0.image")
    assert_problem(await client.post("/v1/optimize", json=asked("0" * 26, png())), 404, "unknown-job", "examples.0.job_id")


async def test_a_class_that_the_encoder_cannot_hold_is_refused(client: httpx2.AsyncClient, generated: str) -> None:
    body = asked(generated, png()) | {"classes": ["long" * 20]}
    assert_problem(await client.post("/v1/optimize", json=body), 422, "prompt-too-long", "classes.0")


async def test_a_name_must_be_a_name(client: httpx2.AsyncClient, generated: str) -> None:
    assert_problem(await client.post("/v1/optimize", json=asked(generated, png(), "../x")), 422, "invalid-request", "name")
