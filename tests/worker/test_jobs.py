"""What becomes of jobs that go well."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from contracts.schema.images import ImagesResult
from contracts.schema.jobs import State
from contracts.state import keys
from tests.worker.client import Client
from worker.app import opened
from worker.resources import Resources
from worker.settings import WorkerSettings
from worker.tasks import job_task

pytestmark = pytest.mark.usefixtures("worker")


async def test_a_generate_job_leaves_its_image_and_its_trace(client: Client, worker: Resources) -> None:
    record = await client.generated(seed=7)
    assert isinstance(record.result, ImagesResult)
    assert (record.result.height, record.result.width, record.result.evaluations) == (64, 64, 3)
    assert record.result.images[0].seed == 7
    with Image.open(BytesIO(await client.artifact(record, "image-0.png"))) as image:
        assert image.size == (64, 64)
        assert image.text["prompt"] == "a photograph of a cat"
    model = await worker.models.get("tiny")
    trace = await client.trace(record, model.pipeline)
    assert len(trace.blocks) == 9
    manifest = await client.store.manifest(record.id, record.attempt)
    assert {artifact.name for artifact in manifest} == {"image-0.png", keys.replay(0)}


async def test_queries_are_stored_in_half_precision(client: Client, worker: Resources) -> None:
    record = await client.generated(capture={"keep": "queries"})
    pipeline = (await worker.models.get("tiny")).pipeline
    trace = await client.trace(record, pipeline)
    assert {block.queries.dtype for block in trace.blocks} == {torch.float16}
    assert worker.scenes.get((record.id, 1, 0)).trace.blocks[0].queries.dtype == torch.float16


async def test_progress_counts_the_steps_of_every_batch(client: Client) -> None:
    record = await client.generated(num_images=5, num_inference_steps=10)  # two batches
    assert (record.progress.done, record.progress.total) == (20, 20)
    seen = [event["progress"] for event in await client.events(record.id) if event["progress"]]
    assert {each["total"] for each in seen} == {20}
    assert [each["done"] for each in seen] == sorted(each["done"] for each in seen)


async def test_as_many_images_are_drawn_at_a_time_as_the_setting_says(client: Client, settings: WorkerSettings) -> None:
    async with opened(settings.model_copy(update={"batch_images": 2})) as resources:
        record = await client.record(client.generation(num_images=3, num_inference_steps=4))
        await job_task(resources, set())(record.id)
    assert (await client.ledger.get(record.id)).progress.total == 2 * 4


async def test_every_step_of_a_generation_can_be_reported(client: Client) -> None:
    record = await client.generated(num_inference_steps=25)
    events = await client.events(record.id)
    done = [event["progress"]["done"] for event in events if event["state"] == "running" and event["progress"]]
    assert done == sorted(set(done))
    assert done[-1] == 25
    assert len(done) >= 3
    assert [event["state"] for event in events][:1] == ["queued"]
    assert events[-1]["state"] == "succeeded"


async def test_image_k_is_the_image_of_seed_plus_k(client: Client) -> None:
    several = await client.generated(seed=5, num_images=5)  # more than one batch
    single = await client.generated(seed=9)
    one, other = await client.artifact(several, "image-4.png"), await client.artifact(single, "image-0.png")
    with Image.open(BytesIO(one)) as left, Image.open(BytesIO(other)) as right:
        assert np.abs(np.asarray(left).astype(int) - np.asarray(right).astype(int)).max() <= 1


async def test_a_trace_from_the_store_answers_as_one_in_memory(client: Client, worker: Resources) -> None:
    source = await client.generated()
    warm = await client.attributed(source)
    worker.scenes.forget_model("tiny")
    assert len(worker.scenes) == 0
    cold = await client.attributed(source)
    assert await client.artifact(warm, "heatmap-0.npy") == await client.artifact(cold, "heatmap-0.npy")


@pytest.mark.parametrize("kind", ["attribute", "probe", "optimize"])
async def test_a_shorter_job_goes_before_a_long_generation_that_runs(client: Client, kind: str) -> None:
    source = await client.generated()
    job = {
        "attribute": await client.attribution(source),
        "probe": client.probing(source, words=["cat"], prompt="a cat"),
        "optimize": client.optimization([client.example(source)], epochs=2),
    }[kind]
    long = await client.submit(client.long_generation(400))
    await client.when(long, lambda record: record.progress is not None)
    answer = await client.run(job)
    assert answer.state is State.SUCCEEDED
    assert (await client.ledger.get(long)).state is State.RUNNING
    await client.cancel(long)
    await client.ended(long)


async def test_generations_that_wait_do_not_keep_an_attribute_job_waiting(client: Client) -> None:
    source = await client.generated()
    crowd = [await client.submit(client.long_generation(300)) for _ in range(6)]
    answer = await client.attributed(source)
    assert answer.state is State.SUCCEEDED
    assert not (await client.ledger.get(crowd[-1])).state.final
    for job_id in crowd:
        await client.cancel(job_id)
    for job_id in crowd:
        assert (await client.ended(job_id)).state is State.CANCELED
