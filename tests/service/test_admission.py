"""Admission by cost: what a job will take is in its record, and too much is refused, field by field."""

import json

import httpx2
import pytest
from redis.asyncio import Redis

from contracts.rules.capabilities import image_job
from contracts.schema.estimates import ModelSizes
from contracts.schema.images import BlockInfo, ImageOptions, Upload
from contracts.schema.models import ModelCard
from contracts.state import keys
from service.admission import deciding
from service.app import create_app
from service.settings import GatewaySettings
from tests.service.in_test_worker import InTestWorker, card
from tests.service.serving import Traces, assert_problem, client_of

GIB = 1 << 30
LARGEST = {"prompt": "a car", "height": 1024, "width": 1024, "num_inference_steps": 150, "num_images": 8}


def sized(**changed: object) -> ModelCard:
    """A card with the sizes of Stable Diffusion 1.5, whose 16 cross-attentions are taken for three."""
    blocks = {"down_blocks.0.attn2": (64, 320 * 5), "down_blocks.1.attn2": (32, 640 * 5), "down_blocks.2.attn2": (16, 1280 * 5)}
    sizes = ModelSizes(
        parameters=1_066_000_000,
        latent_factor=8,
        unet_channels=320,
        vae_channels=128,
        channels={name: channels for name, (_, channels) in blocks.items()},
        self_attention={"down_blocks.0.attn1": 320 * 5},
        number_bytes=2,
        batch_images=4,
        on_cpu=False,
        device_bytes=80 * GIB,
    )
    infos = [BlockInfo(name=name, grid=(side, side), heads=8) for name, (side, _) in blocks.items()]
    large = {"default_height": 512, "default_width": 512, "size_multiple": 64, "blocks": infos, "sizes": sizes}
    return card().model_copy(update=large | changed)


async def test_the_largest_generation_is_refused_with_what_it_would_take(
    client: httpx2.AsyncClient, worker: InTestWorker, traces: Traces
) -> None:
    await worker.publish(sized())
    answer = await client.post("/v1/generate", json=LARGEST)
    problem = assert_problem(answer, 422, "job-too-large", "num_images")
    assert {error["field"]: error["value"] for error in problem["errors"]} == {
        "num_images": 8,
        "num_inference_steps": 150,
        "height": 1024,
        "width": 1024,
    }
    assert 90 * GIB < problem["estimate"]["kept_bytes"] < 110 * GIB
    assert "GiB of files; allowed: 16 GiB of files (OVAM_MAX_JOB_KEPT_BYTES)" in problem["detail"]
    assert await traces() == (0, 0, 0, 0)


@pytest.mark.parametrize("less", [{"num_images": 1}, {"num_inference_steps": 20}, {"height": 256, "width": 512}])
async def test_less_of_one_of_its_fields_is_admitted(client: httpx2.AsyncClient, worker: InTestWorker, less: dict) -> None:
    await worker.publish(sized())
    answer = await client.post("/v1/generate", json=LARGEST | less)
    assert answer.status_code == 202, answer.text
    assert answer.json()["estimate"]["kept_bytes"] < 16 * GIB
    assert answer.json()["estimate"]["seconds"] is None


@pytest.mark.parametrize(("inversion", "steps"), [("ddim", "num_inference_steps"), ("none", "timesteps")])
def test_what_decides_a_real_image_is_named_as_its_request_names_it(inversion: str, steps: str) -> None:
    upload = Upload(media_type="image/png", size=1, sha256="", height=64, width=64)
    for self_attention in (True, False):
        options = ImageOptions.model_validate(
            {"prompt": "a car", "inversion": inversion, "capture": {"keep": "queries", "self_attention": self_attention}}
        )
        fields = [field for field, _, _ in deciding(image_job(options, upload, (64, 64), card()))]
        assert fields == [steps, "height", "width"] + ["capture.self_attention"] * self_attention


async def test_memory_is_bounded_by_the_device_or_by_a_setting(settings: GatewaySettings, worker: InTestWorker) -> None:
    small = sized()
    await worker.publish(small.model_copy(update={"sizes": small.sizes.model_copy(update={"device_bytes": 4 * GIB})}))
    request = {"prompt": "a car", "height": 1024, "width": 1024, "num_images": 4}
    async with client_of(create_app(settings)) as client:
        problem = assert_problem(await client.post("/v1/generate", json=request), 422, "job-too-large", "height")
        assert "allowed: 4 GiB of device memory (the device has no more)" in problem["detail"]
        assert (await client.post("/v1/generate", json={"prompt": "a car"})).status_code == 202
    bounded = settings.model_copy(update={"max_job_memory_bytes": GIB})
    async with client_of(create_app(bounded)) as client:
        problem = assert_problem(await client.post("/v1/generate", json={"prompt": "a car"}), 422, "job-too-large")
        assert "allowed: 1 GiB of device memory (OVAM_MAX_JOB_MEMORY_BYTES)" in problem["detail"]


async def test_time_is_learned_from_jobs_that_ended(settings: GatewaySettings, worker: InTestWorker, redis: Redis) -> None:
    await worker.publish(sized())
    async with client_of(create_app(settings)) as client:
        first = (await client.post("/v1/generate", json={"prompt": "a car"})).json()
        assert first["estimate"]["seconds"] is None
        ended = await worker.end(first["id"])
    took = (ended.finished_at - ended.started_at).total_seconds()
    assert float(await redis.hget(keys.PACES, "generate:tiny")) == pytest.approx(took / first["estimate"]["work"], rel=1e-6)
    await redis.hset(keys.PACES, "generate:tiny", str(60 / first["estimate"]["work"]))
    async with client_of(create_app(settings)) as client:
        record = (await client.post("/v1/generate", json={"prompt": "a car"})).json()
        assert record["estimate"]["seconds"] == pytest.approx(60)
        long = {"prompt": "a car", "num_inference_steps": 150, "num_images": 8, "height": 640, "width": 640}
        problem = assert_problem(
            await client.post("/v1/generate", json=long | {"capture": {"evaluations": 0}}), 422, "job-too-large"
        )
        assert "would run for 3,750 s; allowed: 3,600 s (OVAM_MAX_JOB_SECONDS)" in problem["detail"]


async def test_every_kind_of_job_has_an_estimate(client: httpx2.AsyncClient, worker: InTestWorker, redis: Redis) -> None:
    await worker.publish(sized())
    source = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
    await worker.end(source)
    about = {"job_id": source, "targets": [{"word": "car"}]}
    examples = [{"job_id": source, "mask": [[1, 1, 40, 1, 40, 40]]}]
    for path, request in (
        ("/v1/attribute", about),
        (f"/v1/jobs/{source}/probe", {"point": [1, 1], "words": ["car"]}),
        ("/v1/optimize", {"name": "car", "classes": ["car"], "examples": examples}),
        ("/v1/tokens", {"format": "npy", "name": "car", "classes": ["car"], "file": "aaaa"}),
    ):
        answer = await client.post(path, json=request)
        assert answer.status_code == 202, answer.text
        assert answer.json()["estimate"]["memory_bytes"] > 2e9
        stored = json.loads(await redis.get(keys.job(answer.json()["id"])))
        assert stored["estimate"] == answer.json()["estimate"]


async def test_a_card_without_sizes_admits_without_an_estimate(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    await worker.publish(card())
    assert (await client.post("/v1/generate", json={"prompt": "a car"})).json()["estimate"] is None
