import base64
import io

import httpx2
import pytest
from PIL import Image

from tests.service.in_test_worker import InTestWorker, card, token
from tests.service.serving import Traces, assert_problem


def png(size: tuple[int, int] = (64, 48), *, box: tuple[int, int, int, int] | None = (8, 8, 24, 24), mode: str = "L") -> str:
    """A PNG of (height, width) that is white inside a box (left, top, right, bottom)."""
    height, width = size
    image = Image.new("L", (width, height))
    if box:
        image.paste(255, box)
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def asked(job_id: str, mask: str, name: str = "car-1") -> dict:
    return {"name": name, "classes": ["car"], "examples": [{"job_id": job_id, "mask": mask}]}


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "I;16"])
async def test_a_mask_may_be_any_kind_of_png(client: httpx2.AsyncClient, generated: str, mode: str) -> None:
    answer = await client.post("/v1/optimize", json=asked(generated, png(mode=mode)))
    assert answer.status_code == 202, answer.text
    assert answer.json()["kind"] == "optimize"


def jpeg() -> str:
    buffer = io.BytesIO()
    Image.new("L", (48, 64)).save(buffer, "JPEG")
    return base64.b64encode(buffer.getvalue()).decode()


def broken() -> str:
    whole = base64.b64decode(png())
    return base64.b64encode(whole[: len(whole) // 2]).decode()


def bomb() -> str:
    """A header that promises 65535 x 65535 pixels."""
    whole = bytearray(base64.b64decode(png()))
    whole[16:24] = (65_535).to_bytes(4, "big") * 2
    return base64.b64encode(bytes(whole)).decode()


BAD_MASKS = [
    ("not base64!", 422, "mask-not-an-image"),
    ("ünicode", 422, "mask-not-an-image"),
    (base64.b64encode(b"text, no image").decode(), 422, "mask-not-an-image"),
    (jpeg(), 422, "mask-not-an-image"),
    (broken(), 422, "mask-not-an-image"),
    (bomb(), 422, "mask-of-other-size"),
    (png((48, 64)), 422, "mask-of-other-size"),
    (png(box=None), 422, "mask-empty"),
    (png(box=(0, 0, 48, 64)), 422, "mask-full"),
]


@pytest.mark.parametrize(("mask", "status", "code"), BAD_MASKS)
async def test_a_bad_mask_is_refused_and_leaves_no_trace(
    client: httpx2.AsyncClient, generated: str, traces: Traces, mask: str, status: int, code: str
) -> None:
    before = await traces()
    assert_problem(await client.post("/v1/optimize", json=asked(generated, mask)), status, code, "examples.0.mask")
    assert await traces() == before


async def test_a_name_that_is_taken_is_refused(client: httpx2.AsyncClient, worker: InTestWorker, generated: str) -> None:
    await worker.publish_token(token("car-1"))
    assert_problem(await client.post("/v1/optimize", json=asked(generated, png())), 409, "token-exists", "name")


async def test_examples_of_different_models_are_refused(client: httpx2.AsyncClient, worker: InTestWorker, generated: str) -> None:
    await worker.publish(card("other", default=False))
    job_id = (await client.post("/v1/generate", json={"prompt": "a car", "model": "other"})).json()["id"]
    await worker.end(job_id)
    body = asked(generated, png()) | {"examples": [{"job_id": each, "mask": png()} for each in (generated, job_id)]}
    assert_problem(await client.post("/v1/optimize", json=body), 422, "examples-of-other-models", "examples")


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
