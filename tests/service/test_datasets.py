"""Data sets over HTTP: what is refused, and with which line; what is made, rejected, and exported."""

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx2
import pytest
from redis.asyncio import Redis

from contracts.schema.jobs import State
from contracts.state import keys
from contracts.state.keys import text
from contracts.state.store import ArtifactStore
from contracts.state.transitions import LostJob
from ovam.core.export import Split
from service.datasets import driver
from tests.service.drawing_worker import WEIGHTS, DrawingWorker, side
from tests.service.in_test_worker import card, token
from tests.service.serving import Json, assert_problem

CARS: Json = {"classes": [{"name": "car", "label": 7}], "prompts": ["a car", "a car in the rain"]}
SQUARES = {"area": {"kind": "share", "least": 0.05, "most": 0.3}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LOOK", 0.05)


@pytest.fixture
async def worker(redis: Redis, store_url: str) -> DrawingWorker:
    worker = DrawingWorker(redis, ArtifactStore.at(store_url))
    await worker.publish(card().model_copy(update={"clip": "clip"}))
    return worker


@asynccontextmanager
async def drawing(worker: DrawingWorker) -> AsyncIterator[list[str]]:
    """Do whatever waits; the ids of the jobs that were done."""
    done: list[str] = []
    stopping = asyncio.Event()

    async def work() -> None:
        while not stopping.is_set():
            for job_id in map(text, await worker.redis.zrange(keys.QUEUED, 0, -1)):
                with suppress(LostJob):
                    await worker.end(job_id)
                    done.append(job_id)
            await asyncio.sleep(0.01)

    task = asyncio.create_task(work())
    try:
        yield done
    finally:
        stopping.set()  # a library may swallow a cancellation
        await asyncio.gather(task, return_exceptions=True)  # else what it met would be told while another test runs


async def created(client: httpx2.AsyncClient, **request: object) -> str:
    answer = await client.post("/v1/datasets", json=request)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/datasets/{answer.json()['id']}"
    return answer.json()["id"]


async def when(client: httpx2.AsyncClient, dataset_id: str, state: str, done: int = 0) -> Json:
    async with asyncio.timeout(20):
        while True:
            record = (await client.get(f"/v1/datasets/{dataset_id}")).json()
            if record["state"] == state and record["counts"]["done"] >= done:
                return record
            assert record["state"] != "failed", record
            await asyncio.sleep(0.02)


async def exported(client: httpx2.AsyncClient, dataset_id: str, form: str = "voc", **params: float) -> dict[str, bytes]:
    answer = await client.get(f"/v1/datasets/{dataset_id}/export", params={"format": form, **params})
    assert answer.status_code == 200, answer.text
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


async def test_a_data_set_is_made_filtered_and_exported_and_its_jobs_are_gone(
    client: httpx2.AsyncClient, worker: DrawingWorker, redis: Redis
) -> None:
    async with drawing(worker) as jobs:
        dataset_id = await created(client, **CARS, images_per_prompt=10, seed=10, filters={**SQUARES, "single_colour": True})
        record = await when(client, dataset_id, "succeeded")
    within = [seed for seed in range(10, 30) if seed != 13 and 0.05 * 64 * 48 <= side(seed) ** 2 <= 0.3 * 64 * 48]
    assert record["counts"] == {
        "entries": 20,
        "done": 20,
        "accepted": len(within),
        "failed": 0,
        "rejected": {"area": 19 - len(within), "single-colour": 1},
    }
    assert len(jobs) == len(set(jobs)) == 40
    files = await exported(client, dataset_id)
    lines = [json.loads(line) for line in files["samples.jsonl"].splitlines()]
    assert [line["seed"] for line in lines] == within
    assert [line["name"] for line in lines[:2]] == [f"000000-{seed - 10}" for seed in within[:2]]
    assert [line["annotations"][0]["area"] for line in lines] == [side(seed) ** 2 for seed in within]
    sheet = json.loads(files["datasheet.json"])
    assert sheet["classes"]["car"]["number"] == 7
    assert sheet["model_hash"] == WEIGHTS
    assert sheet["rejected"] == record["counts"]["rejected"]
    assert sum(name.endswith(".png") and name.startswith("SegmentationClass") for name in files) == len(within)
    assert [key async for key in redis.scan_iter("ovam:job:*")] == []
    assert [key async for key in redis.scan_iter("ovam:idempotency:*")] == []
    assert not await redis.exists(keys.dataset_open(dataset_id))


async def test_scores_and_percentiles_reject_the_lowest_share_of_each_class(
    client: httpx2.AsyncClient, worker: DrawingWorker
) -> None:
    async with drawing(worker):
        paper = await created(client, **CARS, images_per_prompt=10, filters={"preset": "paper", "area": None}, concurrency=1)
        code = await created(client, **CARS, images_per_prompt=10, filters={"preset": "published-code"}, concurrency=1)
        twice = await created(client, **CARS, images_per_prompt=10, filters={"duplicates": "perceptual"}, concurrency=1)
        counts = {each: (await when(client, each, "succeeded"))["counts"] for each in (paper, code, twice)}
    # seeds 0 to 19: each side twice, but for seed 13, which has none
    assert counts[paper]["rejected"] == {"clip": 5}  # of the 6 lowest of 20 (0, 4, 4, 8, 8, 12) the last equals one that stays
    # of 19 (seed 13 is of one colour) 4 of the lowest scores: sides 4, 4, 8, 8. Percentiles of 19: none, for 5 % of 19 is none
    assert counts[code]["rejected"] == {"single-colour": 1, "clip": 4}
    assert counts[twice]["rejected"]["duplicate"] >= 8


async def test_a_data_set_can_be_paused_resumed_and_canceled(client: httpx2.AsyncClient, worker: DrawingWorker) -> None:
    dataset_id = await created(client, **CARS, images_per_prompt=30, concurrency=2)
    async with drawing(worker):
        await when(client, dataset_id, "running", done=5)
        assert (await client.post(f"/v1/datasets/{dataset_id}/pause")).json()["state"] == "paused"
        await asyncio.sleep(0.3)
        done = (await when(client, dataset_id, "paused"))["counts"]["done"]
        await asyncio.sleep(0.3)
        assert (await when(client, dataset_id, "paused"))["counts"]["done"] == done < 60
        files = await exported(client, dataset_id, "coco")
        assert len(files["samples.jsonl"].splitlines()) == done
        assert (await client.post(f"/v1/datasets/{dataset_id}/resume")).json()["state"] in ("queued", "running")
        await when(client, dataset_id, "running", done=done + 5)
    assert (await client.post(f"/v1/datasets/{dataset_id}/cancel")).json()["state"] == "canceled"
    async with asyncio.timeout(10):
        while (await client.get("/v1/jobs")).json()["jobs"]:
            await asyncio.sleep(0.05)
    assert_problem(await client.post(f"/v1/datasets/{dataset_id}/resume"), 409, "job-finished", "dataset_id")
    assert (await client.delete(f"/v1/datasets/{dataset_id}")).status_code == 204
    assert_problem(await client.get(f"/v1/datasets/{dataset_id}"), 404, "unknown-dataset", "dataset_id")
    assert [key async for key in worker.store.keys_below("datasets")] == []


async def test_an_image_whose_job_fails_is_counted_and_the_others_are_made(
    client: httpx2.AsyncClient, worker: DrawingWorker
) -> None:
    dataset_id = await created(client, **CARS)
    async with asyncio.timeout(5):
        while not (waiting := await worker.redis.zrange(keys.QUEUED, 0, -1)):
            await asyncio.sleep(0.01)
    await worker.fail(text(waiting[0]), "too large")
    async with drawing(worker):
        record = await when(client, dataset_id, "succeeded")
    assert (record["counts"]["accepted"], record["counts"]["failed"]) == (1, 1)
    for seed in range(6):
        files = await exported(client, dataset_id, "yolo", split=0.5, split_seed=seed)
        (name,) = (json.loads(line)["name"] for line in files["samples.jsonl"].splitlines())
        assert [path.split("/")[1] for path in files if path.startswith("images/")] == [Split(0.5, seed).of(name)]
    assert (await client.delete(f"/v1/datasets/{dataset_id}")).status_code == 204  # which nobody drives any more
    assert [key async for key in worker.store.keys_below("datasets")] == []


@pytest.mark.usefixtures("worker")
async def test_what_is_wrong_with_lines_is_said_with_the_line_before_anything_starts(
    client: httpx2.AsyncClient, redis: Redis
) -> None:
    lines = [
        {"prompt": "a car", "custom_id": "one"},
        {"prompt": "a car " + "x" * 60, "custom_id": "two"},
        {"prompt": "a car", "custom_id": "One"},
        {"prompt": "a lorry", "classes": ["lory"]},
        {"prompt": "a lorry and a car", "seed": -1},
    ]
    jsonl = "\n".join([*map(json.dumps, lines), "{", ""])
    classes = [{"name": "car"}, {"name": "lorry"}]
    answer = await client.post("/v1/datasets", json={"classes": classes, "jsonl": jsonl})
    found = assert_problem(answer, 422, "invalid-request", "jsonl.2.prompt")
    assert [each["field"] for each in found["errors"]] == [
        "jsonl.2.prompt",
        "jsonl.3.custom_id",
        "jsonl.4.classes",
        "jsonl.5.seed",
        "jsonl.6",
    ]
    assert "line 3: `custom_id` 'One' is that of line 1 already" in found["detail"]
    assert "did you mean 'lorry'?" in found["errors"][2]["detail"]
    long = await client.post("/v1/datasets", json={"classes": classes, "prompts": ["a car", "a car " + "x" * 60]})
    assert_problem(long, 422, "prompt-too-long", "prompts.1")
    assert [key async for key in redis.scan_iter("ovam:dataset*")] == []


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({"classes": [{"name": "car", "target": {"token": "cat"}}]}, 404, "unknown-token", "classes.0.target.token"),
        ({"classes": [{"name": "car", "target": {"prompt": "a dog", "word": "car"}}]}, 422, "word-not-in-prompt", None),
        ({"classes": [{"name": "a:b"}]}, 422, "invalid-request", "classes.0.name"),
        ({"classes": [{"name": "car"}, {"name": "dog", "label": 1}]}, 422, "invalid-request", None),
        ({"classes": [{"name": "car"}, {"name": "dog"}], "prompts": ["a bird"]}, 422, "invalid-request", "prompts.0"),
        ({"prompts": None}, 422, "invalid-request", None),
        ({"templates": ["a {class}"]}, 422, "invalid-request", None),
        ({"images_per_prompt": 600_000}, 422, "invalid-argument", "images_per_prompt"),
        ({"generation": {"height": 50}}, 422, "size-not-divisible", "generation.height"),
        ({"generation": {"model": "other"}}, 404, "unknown-model", "generation.model"),
        ({"generation": {"adapters": [{"name": "a"}]}}, 404, "unknown-adapter", "generation.adapters.0.name"),
        ({"generation": {"adapters": [{"name": "a"}, {"name": "a"}]}}, 422, "invalid-request", "generation.adapters"),
        ({"generation": {"clip_skip": 9}}, 422, "settings-contradict", "generation.clip_skip"),
        ({"attribution": {"settings": {"network": "x"}}}, 422, "no-network", "attribution.settings.network"),
        ({"attribution": {"method": "datasetdm"}}, 422, "no-network", "attribution.method"),
        ({"filters": {"area": {"kind": "share", "least": 0.9, "most": 0.1}}}, 422, "invalid-request", "filters.area"),
        ({"filters": {"confidence": {"least": 0.9, "most": 0.2}}}, 422, "invalid-request", "filters.confidence"),
        ({"attribution": {"softmax": "together"}}, 422, "settings-contradict", "attribution.softmax"),
        ({"templates": ["a car"], "prompts": None}, 422, "invalid-request", "templates.0"),
        ({"classes": ["car"]}, 422, "invalid-request", "classes.0"),
        ({"classes": [{"name": "car"}, {"name": "CAR"}]}, 422, "invalid-request", "classes"),
        ({"filters": {"clip": {"kind": "cosine", "drop": 1}}}, 422, "invalid-request", "filters.clip.drop"),
    ],
)
@pytest.mark.usefixtures("worker")
async def test_a_request_that_cannot_be_done_is_refused(
    client: httpx2.AsyncClient, change: Json, status: int, code: str, field: str | None
) -> None:
    assert_problem(await client.post("/v1/datasets", json=CARS | change), status, code, field)


async def test_a_filter_by_clip_is_refused_where_there_is_none(client: httpx2.AsyncClient, worker: DrawingWorker) -> None:
    await worker.publish(card())
    answer = await client.post("/v1/datasets", json=CARS | {"filters": {"preset": "paper"}})
    assert_problem(answer, 422, "no-clip", "filters.clip")
    await created(client, **CARS, filters={"preset": "paper", "clip": None})


async def test_a_token_is_fixed_to_its_version_and_an_idempotency_key_gives_the_same_data_set(
    client: httpx2.AsyncClient, worker: DrawingWorker
) -> None:
    await worker.publish_token(token("dog", classes=("dog",)))
    request = {"classes": [{"name": "dog", "target": {"token": "dog"}}], "prompts": ["a dog"]}
    first = await client.post("/v1/datasets", json=request, headers={"Idempotency-Key": "k"})
    assert first.json()["request"]["classes"][0]["target"] == {
        "settings": None,
        "label": "dog",
        "token": "dog@1",
        "class_name": "dog",
    }
    again = await client.post("/v1/datasets", json=request, headers={"Idempotency-Key": "k"})
    assert (again.json()["id"], again.headers["idempotent-replayed"]) == (first.json()["id"], "true")
    both = await asyncio.gather(
        *(client.post("/v1/datasets", json=request, headers={"Idempotency-Key": "at-once"}) for _ in "12")
    )
    assert both[0].json()["id"] == both[1].json()["id"]
    ids = {first.json()["id"], both[0].json()["id"]}
    assert {key.split("/")[1] async for key in worker.store.keys_below("datasets")} == ids
    other = await client.post("/v1/datasets", json=request | {"seed": 1}, headers={"Idempotency-Key": "k"})
    assert_problem(other, 422, "idempotency-key-reused", "Idempotency-Key")
    listed = (await client.get("/v1/datasets")).json()
    assert ({each["id"] for each in listed["datasets"]}, len(listed["datasets"]), listed["next"]) == (ids, 2, None)


async def test_a_data_set_is_followed_by_its_events(online: httpx2.AsyncClient, worker: DrawingWorker) -> None:
    async with drawing(worker):
        dataset_id = await created(online, **CARS)
        async with asyncio.timeout(20), online.stream("GET", f"/v1/datasets/{dataset_id}/events") as answer:
            states = [json.loads(line[5:]) async for line in answer.aiter_lines() if line.startswith("data:")]
    assert states[0]["state"] == State.QUEUED
    assert (states[-1]["state"], states[-1]["counts"]["done"]) == ("succeeded", 2)
