"""Generations that start from an image, over HTTP: a real gateway, a real worker, tiny genuine models."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import pytest_asyncio
import torch
from PIL import Image

import ovam
from contracts.state import keys
from contracts.state.store import ArtifactStore
from tests.e2e.steering import PROMPT, done, encoded, picture, pixels, saved_models, steered
from tests.families import tiny_family
from tests.ovam.reference import aggregate, record_attention
from tests.service.serving import Json, assert_problem
from tests.worker.client import base64_mask, left_half
from worker.pipelines import pipeline_of

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("starting")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(valkey: str, folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a gateway with a worker behind it, for all tests here: to start them takes longer than a test."""
    async with steered(valkey, folder, models=saved_models(folder)) as (client, _):
        yield client


@pytest.mark.parametrize(("family", "kind"), [("sd1", "image"), ("sdxl", "mask")])
async def test_an_image_that_starts_from_another_is_that_of_diffusers_and_its_maps_are_its_attention(
    http: httpx2.AsyncClient, folder: Path, family: str, kind: Any
) -> None:
    start, mask = picture(), left_half(96)[:, :64]
    body: Json = {"model": family, "image": encoded(start), "strength": 0.5, "guidance_scale": 4.0, "num_images": 2}
    record = await done(http, body | ({"mask": base64_mask(mask)} if kind == "mask" else {}) | {"height": 96, "width": 64})
    request, result = record["request"], record["result"]
    assert (request["image"]["height"], request["image"]["width"], request["strength"]) == (96, 64, 0.5)
    assert (result["evaluations"], result["keep"], record["progress"]["total"]) == (2, "replay", 2)

    text = type(tiny_family(family)).from_pretrained(folder / family, dtype=torch.float32)
    pipeline = pipeline_of(text, kind)
    stored = await ArtifactStore.at(f"file://{folder}/store").get(f"{keys.attempt_folder(record['id'], 1)}/{keys.replay(1)}")
    trace = ovam.Replay.from_bytes(stored or b"").trace(text)
    recorded = record_attention(pipeline)
    same: dict[str, Any] = {"image": start, "strength": 0.5, "num_inference_steps": 4, "guidance_scale": 4.0}
    if kind == "mask":
        same |= {"mask_image": Image.fromarray(mask.astype(np.uint8) * 255), "height": 96, "width": 64}
    image = pipeline(PROMPT, generator=torch.Generator().manual_seed(4), **same).images[0]
    assert np.abs(await pixels(http, record, 1) - np.asarray(image).astype(int)).max() <= 1
    embedding, _ = ovam.encode(pipeline, PROMPT, padding="max_length")
    expected = aggregate(recorded, 1, {block.name: block.grid for block in trace.blocks})
    found = ovam.heatmaps(trace, embedding, reduction="sum").double()
    assert float((found - expected).abs().max() / expected.max()) < 1e-4

    asked = await done(http, {"job_id": record["id"], "image": 1, "targets": [{"word": "cat"}]}, "/v1/attribute")
    assert asked["result"]["segments"][0]["rle"]["size"] == [96, 64]


async def test_an_image_of_a_job_keeps_its_shape_and_strength_says_how_many_steps_are_made(http: httpx2.AsyncClient) -> None:
    upload = await done(http, {"image": encoded(picture(90, 150)), "timesteps": [500]}, "/v1/images")
    start = {"job_id": upload["id"], "image": 0}
    little, much = [await done(http, {"image": start, "strength": strength}) for strength in (0.25, 1.0)]
    assert little["request"]["image"] == start
    assert (little["request"]["height"], little["request"]["width"]) == (32, 64)
    assert [each["result"]["evaluations"] for each in (little, much)] == [1, 4]
    assert np.abs(await pixels(http, little) - await pixels(http, much)).max() > 1
    again = await done(http, {"image": {"job_id": little["id"]}, "mask": [[0, 0, 20, 0, 20, 32, 0, 32]]})
    assert (again["request"]["strength"], again["request"]["mask"]) == (1.0, [[0, 0, 20, 0, 20, 32, 0, 32]])


UNKNOWN = "0" * 26
IMAGE = encoded(picture())
REFUSED: list[tuple[Json, int, str, str]] = [
    ({"image": "QUJD"}, 422, "image-unreadable", "image"),
    ({"image": "!"}, 422, "image-unreadable", "image"),
    ({"image": 3}, 422, "invalid-request", "image"),
    ({"image": {"job_id": UNKNOWN}}, 404, "unknown-job", "image.job_id"),
    ({"image": IMAGE, "strength": 0.1}, 422, "settings-contradict", "strength"),
    ({"image": IMAGE, "strength": 1.1}, 422, "invalid-request", "strength"),
    ({"image": IMAGE, "strength": 0}, 422, "invalid-request", "strength"),
    ({"image": IMAGE, "mask": "QUJD"}, 422, "mask-not-an-image", "mask"),
    ({"image": IMAGE, "mask": base64_mask(np.zeros((96, 64), bool))}, 422, "mask-empty", "mask"),
    ({"image": IMAGE, "height": 60}, 422, "size-not-divisible", "height"),
    ({"strength": 0.5}, 422, "invalid-request", ""),
    ({"mask": base64_mask(left_half())}, 422, "invalid-request", ""),
]


async def test_what_cannot_be_started_from_is_refused_and_says_why(http: httpx2.AsyncClient) -> None:
    for body, status, code, field in REFUSED:
        answer = await http.post("/v1/generate", json={"prompt": PROMPT, "num_inference_steps": 4} | body)
        assert_problem(answer, status, code, field or None)
    gone = await done(http, {})
    assert (await http.delete(f"/v1/jobs/{gone['id']}")).status_code == 204
    answer = await http.post("/v1/generate", json={"prompt": PROMPT, "image": {"job_id": gone["id"]}})
    assert_problem(answer, 404, "unknown-job", "image.job_id")
