"""OpenAI's own client asks for images."""

import asyncio
import base64
from collections.abc import AsyncIterator
from io import BytesIO

import httpx2
import numpy as np
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from contracts.rules.annotations import marks_at
from contracts.schema.errors import Code, Failure, ServiceError
from contracts.schema.images import GenerateJob
from contracts.schema.jobs import State
from contracts.state import keys
from service.forms import MOST_PARTS, boundary_of, fields_of
from service.integrations import openai_images
from service.integrations.openai_edits import ImageEditRequest
from tests.service.in_test_worker import IMAGE, InTestWorker
from tests.service.serving import Json, Traces, assert_problem

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
async def theirs(online: httpx2.AsyncClient) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{online.base_url}/v1", api_key="none") as client:
        yield client


async def next_job(worker: InTestWorker) -> str:
    """The id of the job that waits."""
    while True:
        records, _ = await worker.ledger.newest(None, 1)
        if records and records[0].state is State.QUEUED:
            return records[0].id
        await asyncio.sleep(0.02)


async def test_images_come_as_bytes_with_the_job_s_id(theirs: openai.AsyncOpenAI, worker: InTestWorker) -> None:
    asking = asyncio.create_task(
        theirs.images.generate(prompt="a red car", n=2, size="48x64", response_format="b64_json", extra_body={"seed": 3})  # type: ignore[no-matching-overload]
    )
    job = await next_job(worker)
    await worker.end(job)
    answer = await asking
    assert [base64.b64decode(image.b64_json or "") for image in answer.data or []] == [IMAGE, IMAGE]
    assert (answer.model_extra or {})["ovam"] == {"job_id": job, "seeds": [3, 4]}
    assert answer.size == "48x64"
    record = await worker.ledger.get(job)
    assert record.request is not None
    assert (record.request.kind, record.request.height, record.request.width) == ("generate", 64, 48)  # type: ignore[missing-attribute]


async def test_images_come_as_addresses_that_lead_to_them(
    theirs: openai.AsyncOpenAI, worker: InTestWorker, online: httpx2.AsyncClient
) -> None:
    asking = asyncio.create_task(theirs.images.generate(prompt="a red car"))
    await worker.end(await next_job(worker))
    (image,) = (await asking).data or []
    assert image.url is not None
    assert image.url.startswith(str(online.base_url))
    assert (await online.get(image.url)).content == IMAGE


@pytest.mark.parametrize(
    ("options", "code", "field"),
    [
        ({"size": "50x64"}, "size-not-divisible", "size"),
        ({"size": "big"}, "invalid-request", "size"),
        ({"size": "64x4"}, "invalid-request", "size"),  # which `/v1/generate` refuses, not the shape of theirs
        ({"n": 9}, "too-many-images", "n"),
        ({"model": "dall-e-3"}, "unknown-model", "model"),
        ({"stream": True}, "invalid-request", "stream"),
        ({"style": "vivid"}, "invalid-request", "style"),
        ({"quality": "hd"}, "invalid-request", "quality"),
        ({"prompt": ""}, "invalid-request", "prompt"),
    ],
)
async def test_a_refusal_names_the_field_as_openai_calls_it(
    client: httpx2.AsyncClient, options: Json, code: str, field: str
) -> None:
    answer = await client.post("/v1/images/generations", json={"prompt": "a red car"} | options)
    assert_problem(answer, answer.status_code, code, field)


async def test_their_client_reads_our_codes(theirs: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await theirs.images.generate(prompt="a red car", model="dall-e-3")
    assert (refused.value.code, refused.value.param) == (Code.UNKNOWN_MODEL, "model")
    assert "there is no model 'dall-e-3'; served: tiny" in str(refused.value)


async def test_a_job_that_fails_is_told_once_and_not_tried_again(
    theirs: openai.AsyncOpenAI, worker: InTestWorker, traces: Traces
) -> None:
    asking = asyncio.create_task(theirs.images.generate(prompt="a red car"))
    record = await worker.begin(await next_job(worker))
    await worker.ledger.fail(record.id, record.attempt, Failure(code=Code.OUT_OF_MEMORY, detail="too large"))
    with pytest.raises(openai.InternalServerError, match="too large") as failed:
        await asking
    assert failed.value.code == Code.OUT_OF_MEMORY
    assert (await traces())[0] == 1


async def test_a_job_that_is_canceled_is_said_to_be_no_success(theirs: openai.AsyncOpenAI, worker: InTestWorker) -> None:
    asking = asyncio.create_task(theirs.images.generate(prompt="a red car"))
    await worker.ledger.cancel(await next_job(worker))
    with pytest.raises(openai.APIStatusError) as canceled:
        await asking
    assert canceled.value.code == Code.JOB_NOT_SUCCESSFUL


async def test_a_client_that_leaves_takes_its_job_with_it(theirs: openai.AsyncOpenAI, worker: InTestWorker) -> None:
    for asked in (theirs.images.generate(prompt="a red car"), theirs.images.edit(prompt="a car", image=rgba(transparent=False))):
        asking = asyncio.create_task(asked)
        job = await next_job(worker)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(5):
            while (await worker.ledger.get(job)).state is not State.CANCELED:
                await asyncio.sleep(0.02)


async def test_a_job_that_takes_too_long_goes_on(
    client: httpx2.AsyncClient, worker: InTestWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_images, "LONGEST_WAIT", 0.1)
    answer = await client.post("/v1/images/generations", json={"prompt": "a red car"})
    assert_problem(answer, 409, "job-not-finished")
    assert answer.headers["x-should-retry"] == "false"
    assert (await worker.ledger.get(await next_job(worker))).state is State.QUEUED


async def test_the_same_key_gives_the_same_images(theirs: openai.AsyncOpenAI, worker: InTestWorker, traces: Traces) -> None:
    headers = {"Idempotency-Key": "mine"}
    several = [asyncio.create_task(theirs.images.generate(prompt="a red car", extra_headers=headers)) for _ in range(2)]
    job = await next_job(worker)
    await asyncio.sleep(0.3)
    await worker.end(job)
    one, other = await asyncio.gather(*several)
    assert one.data == other.data
    assert (await traces())[0] == 1


def rgba(*, transparent: bool) -> bytes:
    """A picture, or one whose left half is transparent."""
    pixels = np.full((64, 48, 4), 255, np.uint8)
    pixels[:, :24, 3] = 0 if transparent else 255
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


async def test_an_image_is_edited_where_the_mask_is_transparent(theirs: openai.AsyncOpenAI, worker: InTestWorker) -> None:
    image, mask = rgba(transparent=False), rgba(transparent=True)
    asking = asyncio.create_task(
        theirs.images.edit(prompt="a red car", image=image, mask=mask, n=2, response_format="b64_json", extra_body={"seed": 3})
    )
    job = await next_job(worker)
    record = await worker.ledger.get(job)
    assert await worker.store.get(keys.upload(job)) == image
    request = record.request
    assert isinstance(request, GenerateJob)
    assert (request.num_images, request.seed, request.strength, request.height, request.width) == (2, 3, 1.0, 64, 48)
    marks = marks_at(request.mask or "", (64, 48), field="mask")
    assert marks[:, :24].all()
    assert not marks[:, 24:].any()
    await worker.end(job)
    assert [base64.b64decode(each.b64_json or "") for each in (await asking).data or []] == [IMAGE, IMAGE]


async def test_an_edit_asked_for_again_with_its_key_is_answered_even_when_its_model_is_gone(
    client: httpx2.AsyncClient, worker: InTestWorker, traces: Traces
) -> None:
    asked = {"files": {"image": ("a.png", rgba(transparent=False), "image/png")}, "data": {"prompt": "a car"}}
    asking = asyncio.create_task(client.post("/v1/images/edits", **asked, headers={"Idempotency-Key": "mine"}))
    await worker.end(await next_job(worker))
    answer = await asking
    assert (await client.get(answer.json()["data"][0]["url"])).content == IMAGE
    await worker.redis.delete(keys.MODELS)
    again = await client.post("/v1/images/edits", **asked, headers={"Idempotency-Key": "mine"})
    assert (again.status_code, again.json()["data"]) == (200, answer.json()["data"])
    assert (await traces())[0] == 1


async def test_an_edit_that_cannot_be_made_is_refused_by_its_field(client: httpx2.AsyncClient, traces: Traces) -> None:
    image = ("a.png", rgba(transparent=False), "image/png")
    for files, data, code, field in (
        ({"image": image}, {}, "invalid-request", "prompt"),
        ({}, {"prompt": "a car"}, "invalid-request", "image"),
        ({"image": image, "image[]": image}, {"prompt": "a car"}, "invalid-request", "image"),
        ({"image": ("a.png", b"no", "image/png")}, {"prompt": "a car"}, "image-unreadable", "image"),
        ({"image": image, "mask": image}, {"prompt": "a car"}, "mask-unreadable", "mask"),
        ({"image": image}, {"prompt": "a car", "size": "50x50"}, "size-not-divisible", "size"),
        ({"image": image}, {"prompt": "a car", "strength": "2"}, "invalid-request", "strength"),
    ):
        answer = await client.post("/v1/images/edits", files=files or {"nothing": b""}, data=data)
        assert assert_problem(answer, 422, code, field)["param"], code
    for content in (b"", b"--x", b"--x--", b"--x\r\n\r\n1\r\n--x--", b"rubbish\r\n--x\r\n\r\n--x--"):
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        assert_problem(await client.post("/v1/images/edits", content=content, headers=kind), 422, "invalid-request")
    assert await traces() == (0, 0, 0, 0)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_form_gives_files_back_as_they_were(one: bytes, other: bytes) -> None:
    boundary = b"--boundary-0123456789"
    body = b"".join(
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n' % name + data + b"\r\n"
        for name, data in ((b"one", one), (b"other[]", other))
    )
    found = fields_of(body + b"--" + boundary + b"--\r\n", boundary)
    assert {name: base64.b64decode(each) for name, each in found.items()} == {"one": one, "other": other}


def test_a_form_that_is_torn_or_ambiguous_is_refused() -> None:
    def part(name: str, value: str = "x") -> bytes:
        return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()

    many = [part(f"field{number}") for number in range(MOST_PARTS + 1)]
    assert fields_of(part("a[]") + part("b", "x--b") + b"--b--\r\n", b"b") == {"a": "x", "b": "x--b"}
    assert len(fields_of(b"".join(many[:-1]) + b"--b--", b"b")) == MOST_PARTS
    for body, why in (
        (b"".join(many) + b"--b--", f"a form of up to {MOST_PARTS} fields"),
        (part("a") + part("b"), "not a form"),  # its end is missing
        (b"first" + part("a") + b"--b--", "not a form"),
        (b"", "not a form"),
        (part("a") + part("a[]", "y") + b"--b--", "the form has `a` twice"),
        (b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--", "has no name"),
    ):
        with pytest.raises(ServiceError, match=why):
            fields_of(body, b"b")
    assert boundary_of('multipart/form-data; boundary="b"') == b"b"
    assert boundary_of('multipart/mixed; boundary="b"') is None


def test_an_edit_is_a_generation_from_its_image_as_strong_as_asked() -> None:
    asked = ImageEditRequest(prompt="a car", image="QUJD", strength=0.7).edit("REVG")
    assert (asked.prompt, asked.image, asked.mask, asked.strength) == ("a car", "QUJD", "REVG", 0.7)
