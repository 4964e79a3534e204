"""What takes long to unpack is refused or given up, and holds nobody up."""

import asyncio
import base64
import os
import pickle
import time
from collections.abc import Iterator
from contextlib import closing

import httpx2
import pytest
from PIL import Image

from contracts.schema.errors import Code, ServiceError
from service import decoding
from service.aside import LateError
from service.decoding import Decoders
from service.images import MAX_SCANS, inspected, scans
from service.settings import GatewaySettings
from tests.service.in_test_worker import InTestWorker
from tests.service.serving import Traces, assert_problem
from tests.service.test_image import body, picture, written
from tests.service.test_optimize import asked, png


def progressive(count: int, side: int = 400) -> bytes:
    """A JPEG whose last scan is repeated."""
    whole = written(Image.new("L", (side, side), 99), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * (count - scans(whole)) + b"\xff\xd9"


def slowly(seconds: float) -> float:
    """Stands for a decoder: in a process of its own, nothing can be put in its place."""
    time.sleep(seconds)
    return seconds


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"max_body_bytes": 2**20})


@pytest.mark.usefixtures("worker")
async def test_a_jpeg_of_more_scans_than_programs_write_is_refused(client: httpx2.AsyncClient, traces: Traces) -> None:
    found = assert_problem(await client.post("/v1/images", json=body(progressive(2000, 40))), 422, "image-unsupported", "image")
    assert "2000 scans; allowed: 100" in found["detail"]
    assert await traces() == (0, 0, 0, 0)
    assert (await client.post("/v1/images", json=body(written(picture(), "JPEG", progressive=True)))).status_code == 202


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    with closing(Decoders()) as decoders:
        yield decoders


@pytest.mark.parametrize("data", [progressive(MAX_SCANS), written(Image.new("L", (2500, 2500)))], ids=["scans", "pixels"])
async def test_a_laborious_image_is_unpacked_in_a_process(decoders: Decoders, data: bytes) -> None:
    assert len(data) < decoding.SMALL_FILE
    assert await decoders.inspect(data, field="image") == inspected(data, "image")
    assert [helper.process is not None for helper in decoders.aside.helpers].count(True) == 1


async def test_what_is_wrong_is_said_by_a_process_as_by_a_thread(decoders: Decoders) -> None:
    data = written(Image.new("L", (2500, 2500)))[:-40]
    with pytest.raises(ServiceError) as error:
        await decoders.inspect(data, field="image")
    assert (error.value.code, error.value.field) == (Code.IMAGE_UNREADABLE, "image")


async def test_a_process_that_takes_too_long_is_ended_and_the_next_call_gets_another(decoders: Decoders) -> None:
    aside = decoders.aside
    begun = time.perf_counter()
    assert await asyncio.gather(*(aside.call(30.0, slowly, 0.1) for _ in range(2))) == [0.1, 0.1]
    started = time.perf_counter() - begun
    ended = await asyncio.gather(*(aside.call(0.5, slowly, 60.0) for _ in range(2)), return_exceptions=True)
    assert [type(each) for each in ended] == [LateError, LateError]
    assert await aside.call(30.0, slowly, 0.0) == 0.0
    assert time.perf_counter() - begun < 5 * started + 5


async def test_a_process_that_dies_is_replaced(decoders: Decoders) -> None:
    with pytest.raises(LateError):
        await decoders.aside.call(30.0, os._exit, 1)
    assert await decoders.aside.call(30.0, slowly, 0.0) == 0.0


async def test_small_images_do_not_wait_for_laborious_ones(decoders: Decoders) -> None:
    held = [asyncio.create_task(decoders.aside.call(30.0, slowly, 3.0)) for _ in range(3)]
    await asyncio.sleep(0.1)
    await decoders.inspect(written(picture()), field="image")
    assert not any(task.done() for task in held)
    await asyncio.gather(*held)


async def test_many_large_masks_are_read_in_a_process(
    client: httpx2.AsyncClient, worker: InTestWorker, generated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del worker
    large = asked(generated, png((2000, 1500), box=(200, 200, 800, 800)))
    large["examples"] *= 3
    assert (await client.post("/v1/optimize", json=large)).status_code == 202
    monkeypatch.setattr(decoding, "WITHIN", 0.001)
    assert_problem(await client.post("/v1/optimize", json=large), 422, "image-too-large", "examples")


@pytest.mark.parametrize("data", [b"hello, no image", b"\x89PNG\r\n\x1a\n" + bytes(40), written(picture())[:16] + bytes(99)])
async def test_no_answer_names_an_address_in_memory(client: httpx2.AsyncClient, generated: str, data: bytes) -> None:
    for path, asks in (
        ("/v1/images", body(data)),
        ("/v1/optimize", asked(generated, base64.b64encode(data).decode())),
    ):
        answer = await client.post(path, json=asks)
        assert answer.status_code == 422
        assert "0x" not in answer.text


def test_an_error_is_the_same_on_the_other_side_of_a_process_border() -> None:
    error = ServiceError(Code.QUEUE_FULL, "full", field="f", value=[1], retry_after=5)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    assert (str(again), vars(again)) == (str(error), vars(error))
