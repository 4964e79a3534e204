"""Real images over HTTP: what is taken, what is refused, and what either leaves behind."""

import base64
import hashlib
import io
import struct
import zlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image, ImageOps
from redis.asyncio import Redis

from contracts.rules.capabilities import image_job
from contracts.schema.errors import ServiceError
from contracts.schema.images import ImageJob, ImageOptions
from contracts.state import keys
from contracts.state.store import ArtifactStore
from service.images import decoded, inspected
from service.queue import Queue
from tests.service.in_test_worker import InTestWorker, card
from tests.service.serving import Traces, assert_problem

Left = Callable[[], Awaitable[tuple[Any, ...]]]


def picture(size: tuple[int, int] = (40, 64), mode: str = "RGB") -> Image.Image:
    """A picture of (height, width)."""
    random = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    return Image.fromarray(random // 32 * 32).convert(mode)


def written(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def body(data: bytes, **options: Any) -> dict[str, Any]:
    return {"image": base64.b64encode(data).decode(), **options}


@pytest.fixture
def left(traces: Traces, store_url: str) -> Left:
    """What submissions have left: in Redis, and in the store."""

    async def count() -> tuple[Any, ...]:
        return *(await traces()), [key async for key in ArtifactStore.at(store_url).keys_below("")]

    return count


@pytest.mark.parametrize(("kind", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")])
async def test_an_image_is_stored_as_it_came_and_its_record_tells_what_it_was(
    client: httpx2.AsyncClient, worker: InTestWorker, kind: str, media_type: str
) -> None:
    data = written(picture(), kind)
    answer = await client.post("/v1/images", json=body(data, prompt=" a car "))
    assert answer.status_code == 202, answer.text
    record = answer.json()
    assert (record["kind"], record["state"], answer.headers["location"]) == ("image", "queued", f"/v1/jobs/{record['id']}")
    assert "image" not in record["request"]
    upload = {"media_type": media_type, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "height": 40, "width": 64}
    assert record["request"]["upload"] == upload
    request = ImageJob.model_validate(record["request"])
    assert (request.model, request.prompt, request.capture.self_attention) == ("tiny", "a car", False)
    assert await worker.store.get(keys.upload(record["id"])) == data


SIZES = [
    ((40, 64), {}, (48, 64)),  # halves go up
    ((64, 40), {}, (64, 48)),
    ((64, 64), {}, (64, 64)),
    ((300, 20), {}, (64, 16)),  # no side is less than the model's multiple
    ((90, 60), {"height": 96}, (96, 64)),
    ((90, 60), {"width": 32}, (48, 32)),
    ((90, 60), {"height": 32, "width": 128}, (32, 128)),
]


@pytest.mark.parametrize(("size", "asked", "given"), SIZES)
@pytest.mark.usefixtures("worker")
async def test_the_size_is_as_asked_or_keeps_the_images_shape(
    client: httpx2.AsyncClient, size: tuple[int, int], asked: dict[str, int], given: tuple[int, int]
) -> None:
    image = Image.new("RGB", (size[1], size[0]))
    request = (await client.post("/v1/images", json=body(written(image), **asked))).json()["request"]
    assert (request["height"], request["width"]) == given


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_as_high_and_wide_as_it_is_seen(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = written(picture(), exif=exif)
    found = inspected(data, field="image")
    with Image.open(io.BytesIO(data)) as image:
        seen = ImageOps.exif_transpose(image)
    assert (found.width, found.height) == seen.size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.usefixtures("worker")
async def test_a_picture_that_lies_on_its_side_is_turned_upright(client: httpx2.AsyncClient, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    request = (await client.post("/v1/images", json=body(written(picture(), kind, exif=exif)))).json()["request"]
    assert (request["upload"]["height"], request["upload"]["width"]) == (64, 40)
    assert (request["height"], request["width"]) == (64, 48)


MODES = [
    ("PNG", "1"),
    ("PNG", "L"),
    ("PNG", "LA"),
    ("PNG", "P"),
    ("PNG", "RGBA"),
    ("PNG", "I;16"),
    ("JPEG", "L"),
    ("JPEG", "CMYK"),
]


@pytest.mark.parametrize(("kind", "mode"), [*MODES, ("WEBP", "RGBA")])
@pytest.mark.usefixtures("worker")
async def test_an_image_may_be_of_any_mode(client: httpx2.AsyncClient, kind: str, mode: str) -> None:
    image = picture(mode="L").convert("I;16") if mode == "I;16" else picture(mode=mode)
    assert (await client.post("/v1/images", json=body(written(image, kind)))).status_code == 202


@pytest.mark.usefixtures("worker")
async def test_a_phones_picture_with_another_behind_it_is_a_jpeg(client: httpx2.AsyncClient) -> None:
    data = written(picture(), "MPO", save_all=True, append_images=[picture()])
    answer = await client.post("/v1/images", json=body(data))
    assert answer.json()["request"]["upload"]["media_type"] == "image/jpeg"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def promising(width: int, height: int) -> bytes:
    """A PNG whose header promises more pixels than it has."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def animated(kind: str) -> bytes:
    return written(picture(), kind, save_all=True, append_images=[Image.new("RGB", (64, 40))])


def damaged(data: bytes) -> bytes:
    """The same with its middle overwritten."""
    middle = len(data) // 2
    return data[:middle] + b"\xff" * 64 + data[middle + 64 :]


TRUNCATED = {kind: written(picture((64, 64)), kind)[:-200] for kind in ("PNG", "JPEG", "WEBP")}
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no base64": ({"image": "not base64!"}, "image-unreadable", "image"),
    "nothing": ({"image": ""}, "invalid-request", "image"),
    "no image": (body(b"text, no image"), "image-unreadable", "image"),
    "a header alone": (body(b"\x89PNG\r\n\x1a\n"), "image-unreadable", "image"),
    **{f"half a {kind}": (body(data), "image-unreadable", "image") for kind, data in TRUNCATED.items()},
    "a damaged PNG": (body(damaged(written(picture()))), "image-unreadable", "image"),
    "no pixels": (body(promising(0, 8)), "image-unreadable", "image"),
    "a promise": (body(promising(64, 64)), "image-unreadable", "image"),
    "as many pixels as are unpacked, of which none is there": (body(promising(5000, 5000)), "image-unreadable", "image"),
    "many pixels": (body(promising(5001, 5000)), "image-too-large", "image"),
    "more pixels": (body(promising(12_000, 12_000)), "image-too-large", "image"),
    "a bomb": (body(promising(65_535, 65_535)), "image-too-large", "image"),
    "a GIF": (body(written(picture(), "GIF")), "image-unsupported", "image"),
    "a BMP": (body(written(picture((8, 8)), "BMP")), "image-unsupported", "image"),
    "a TIFF": (body(written(picture((8, 8)), "TIFF")), "image-unsupported", "image"),
    "an AVIF": (body(b"\0\0\0\x1cftypavif\0\0\0\0"), "image-unsupported", "image"),
    "an animated PNG": (body(animated("PNG")), "image-unsupported", "image"),
    "an animated WebP": (body(animated("WEBP")), "image-unsupported", "image"),
    "an odd height": (body(written(picture()), height=60), "size-not-divisible", "height"),
    "a large width": (body(written(picture()), width=2048), "size-too-large", "width"),
    "a width that follows": (body(written(Image.new("RGB", (400, 4))), height=16), "size-too-large", "width"),
    "a long prompt": (body(written(picture()), prompt="long " * 20), "prompt-too-long", "prompt"),
    "no such model": (body(written(picture()), model="other"), "unknown-model", "model"),
    "many timesteps": (body(written(picture()), timesteps=[5] * 151), "too-many-steps", "timesteps"),
    "many steps": (body(written(picture()), inversion="ddim", num_inference_steps=151), "too-many-steps", "num_inference_steps"),
    "a timestep outside": (body(written(picture()), timesteps=[1000]), "invalid-request", "timesteps.0"),
    "two ways": (body(written(picture()), inversion="ddim", timesteps=[1]), "invalid-request", "timesteps"),
    "the other branch": (body(written(picture()), capture={"branch": "unconditional"}), "invalid-request", "body"),
    "no such block": (body(written(picture()), capture={"blocks": ["left"]}), "selection-invalid", "capture.blocks"),
    "no such evaluation": (
        body(written(picture()), timesteps=[1, 2], capture={"evaluations": 2}),
        "selection-invalid",
        "capture.evaluations",
    ),
}


@pytest.mark.parametrize(("asked", "code", "field"), BAD.values(), ids=BAD.keys())
@pytest.mark.usefixtures("worker")
async def test_a_bad_image_is_refused_and_leaves_nothing(
    client: httpx2.AsyncClient, left: Left, asked: dict[str, Any], code: str, field: str
) -> None:
    status = 404 if code == "unknown-model" else 422
    found = assert_problem(await client.post("/v1/images", json=asked), status, code, field)
    assert len(found["detail"]) < 300
    assert await left() == (0, 0, 0, 0, [])


@pytest.mark.usefixtures("worker")
async def test_a_full_queue_keeps_no_image(client: httpx2.AsyncClient, left: Left) -> None:
    for _ in range(3):
        await client.post("/v1/generate", json={"prompt": "a car"})
    assert_problem(await client.post("/v1/images", json=body(written(picture()))), 429, "queue-full")
    assert await left() == (3, 3, 3, 3, [])


async def test_an_image_stays_when_nobody_knows_whether_its_job_was_filed(worker: InTestWorker, left: Left) -> None:
    job = image_job(ImageOptions(), inspected(written(picture()), field="image"), (48, 64), card())
    async with Redis(port=1) as nowhere:
        queue = Queue(nowhere, {}, worker.store, max_queued=9, job_ttl=timedelta(hours=1))
        with pytest.raises(ServiceError, match="may have been filed"):
            await queue.submit(job, None, {"image": written(picture())})
    assert len((await left())[-1]) == 1


@pytest.mark.usefixtures("worker")
async def test_a_key_stands_for_the_whole_body_the_image_included(client: httpx2.AsyncClient, left: Left) -> None:
    headers = {"Idempotency-Key": "k1"}
    one, other = body(written(picture())), body(written(picture((48, 64))))
    first = await client.post("/v1/images", json=one, headers=headers)
    again = await client.post("/v1/images", json=one, headers=headers)
    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert_problem(await client.post("/v1/images", json=other, headers=headers), 422, "idempotency-key-reused")
    assert await left() == (1, 1, 1, 1, [keys.upload(first.json()["id"])])


@pytest.mark.usefixtures("worker")
async def test_an_image_goes_with_its_job(client: httpx2.AsyncClient, left: Left) -> None:
    answer = await client.post("/v1/images", json=body(written(picture())))
    await client.delete(answer.headers["location"])
    assert (await left())[-1] == []


async def test_a_real_image_can_be_asked_about_like_a_generated_one(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    job_id = (await client.post("/v1/images", json=body(written(picture())))).json()["id"]
    targets = [{"word": "car"}]
    assert_problem(await client.post("/v1/attribute", json={"job_id": job_id, "targets": targets}), 409, "job-not-finished")
    await worker.end(job_id)
    assert (await client.post("/v1/attribute", json={"job_id": job_id, "targets": targets})).status_code == 202
    found = assert_problem(
        await client.post("/v1/attribute", json={"job_id": job_id, "targets": targets, "image": 1}),
        422,
        "image-index-out-of-range",
    )
    assert "has 1 image," in found["detail"]


async def test_self_attention_is_kept_by_the_models_default(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    await worker.publish(card().model_copy(update={"default_self_attention": True}))
    request = (await client.post("/v1/images", json=body(written(picture())))).json()["request"]
    assert request["capture"]["self_attention"] is True


async def test_an_image_is_stored_before_its_job_can_be_found(
    client: httpx2.AsyncClient, worker: InTestWorker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    put = ArtifactStore.put

    async def watched(store: ArtifactStore, key: str, data: bytes) -> None:
        await put(store, key, data)
        seen.append(await redis.zcard(keys.JOBS))

    monkeypatch.setattr(ArtifactStore, "put", watched)
    answer = await client.post("/v1/images", json=body(written(picture())))
    assert seen == [0]
    assert await worker.ledger.find(answer.json()["id"]) is not None


def test_an_animation_another_format_and_torn_base64_are_named() -> None:
    for kind in ("WEBP", "PNG"):
        two = written(picture(), kind, save_all=True, append_images=[ImageOps.invert(picture())])
        with pytest.raises(ServiceError, match="has 2 frames; allowed: one"):
            inspected(two, field="image")
    for data, what in ((b"\0\0\0\x1cftypavif", "an AVIF or HEIF"), (b"GIF89a", "a GIF")):
        with pytest.raises(ServiceError, match=f"`image` is {what}; allowed: PNG, JPEG, WebP"):
            inspected(data, field="image")
    with pytest.raises(ServiceError, match="base64"):
        decoded("QUJD\nQUJD*", field="image")
