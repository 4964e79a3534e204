"""Real images through a worker: from the upload to a trace, and questions about it."""

import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ovam
from contracts.schema.attribute import AttributeResult
from contracts.schema.errors import Code
from contracts.schema.images import ImagesResult
from contracts.schema.jobs import JobRecord, State
from contracts.schema.optimize import OptimizeResult
from contracts.schema.probe import ProbeResult
from contracts.schema.targets import TokenTarget
from contracts.state import keys
from ovam.real_images import TIMESTEPS
from tests.families import picture, tiny_family
from tests.worker.client import Client
from tests.worker.jobs import CAT, real_image
from worker.pictures import read_picture
from worker.resources import Resources
from worker.settings import WorkerSettings

pytestmark = pytest.mark.usefixtures("worker")

FAMILIES = ("sd1", "sd2", "sdxl")


@pytest.fixture(scope="session")
def family_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("families")
    for name in FAMILIES:
        tiny_family(name).save_pretrained(folder / name)
    return {name: str(folder / name) for name in FAMILIES}


@pytest.fixture
def settings(settings: WorkerSettings, family_folders: dict[str, str]) -> WorkerSettings:
    return settings.model_copy(update={"models": family_folders, "default_model": "sd1", "max_loaded_models": 3})


def upload(size: tuple[int, int] = (50, 70)) -> bytes:
    buffer = BytesIO()
    picture(*size).save(buffer, "PNG")
    return buffer.getvalue()


async def submitted(client: Client, model: str | None = None, **options: Any) -> str:
    """An image job, submitted as the gateway does: its upload first."""
    data = upload()
    record = await client.record(real_image(client.card(model), data, **options))
    await client.store.put(keys.upload(record.id), data)
    await client.deliver(record)
    return record.id


async def taken(client: Client, model: str | None = None, **options: Any) -> JobRecord:
    """An image job that ended."""
    return await client.ended(await submitted(client, model, **options))


async def trace_of(client: Client, worker: Resources, record: JobRecord) -> ovam.Trace:
    model = await worker.models.get(record.result.model)
    return await client.trace(record, model.pipeline)


WAYS: list[dict[str, Any]] = [
    {"prompt": "a cat", "seed": 3},
    {"timesteps": [600, 300, 300], "capture": {"evaluations": [0, -1], "heads": 0, "blocks": ["up", 6], "self_attention": True}},
    {"inversion": "ddim", "num_inference_steps": 4, "capture": {"mid_block": True}},
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", WAYS)
async def test_the_trace_is_the_librarys_of_the_picture_that_is_shown(
    client: Client, worker: Resources, family: str, options: dict[str, Any]
) -> None:
    record = await taken(client, model=family, **options)
    assert record.state is State.SUCCEEDED, record.error
    with Image.open(BytesIO(await client.artifact(record, "image-0.png"))) as image:
        pixels = np.asarray(image)
    assert (pixels == read_picture(upload(), (64, 96))).all()

    found = await trace_of(client, worker, record)
    choices = {name: value for name, value in options.items() if name != "capture"} | options.get("capture", {})
    pipeline = (await worker.models.get(family)).pipeline
    expected = ovam.trace_image(pipeline, pixels, **choices | {"self_attention": True})  # which a replay has anyway
    assert (found.timesteps, found.evaluations, found.image_size) == (expected.timesteps, expected.evaluations, (64, 96))
    for block, same in zip(found.blocks, expected.blocks, strict=True):
        assert (block.name, block.grid) == (same.name, same.grid)
        assert torch.allclose(block.queries.float(), same.queries.float(), rtol=1e-2, atol=1e-2)
    assert len(found.self_attention) == len(expected.self_attention)

    result = record.result
    assert isinstance(result, ImagesResult)
    assert (result.kind, result.model, result.height, result.width) == ("image", family, 64, 96)
    assert (result.guidance_scale, result.scheduler) == (1.0, "DDIMScheduler")
    assert result.num_inference_steps == {0: 9, 1: 3, 2: 4}[WAYS.index(options)]
    assert (result.evaluations, result.timesteps) == (len(found.timesteps), [*found.timesteps])
    assert [(block.name, block.grid, block.heads) for block in result.blocks] == [
        (block.name, block.grid, block.heads) for block in found.blocks
    ]
    assert result.self_attention == bool(found.self_attention)
    assert result.images[0].seed == options.get("seed", 0)


async def test_noise_is_added_where_it_was_measured_to_be_best(client: Client) -> None:
    record = await taken(client)
    assert record.result.timesteps == [float(step) for step in TIMESTEPS]
    assert record.result.num_inference_steps == len(TIMESTEPS)
    events = await client.events(record.id)
    last = {"done": 9, "total": 9, "unit": "evaluation", "loss": None, "preview": None}
    assert last in [event["progress"] for event in events]


async def test_the_picture_holds_the_request(client: Client) -> None:
    record = await taken(client, prompt="a cat", timesteps=[5])
    with Image.open(BytesIO(await client.artifact(record, "image-0.png"))) as image:
        assert image.text["prompt"] == "a cat"
        assert json.loads(image.text["settings"])["timesteps"] == [5]


async def test_the_same_seed_gives_the_same_trace(client: Client) -> None:
    one, again, other = [await taken(client, seed=seed) for seed in (1, 1, 2)]
    files = [await client.artifact(record, keys.replay(0)) for record in (one, again, other)]
    assert files[0] == files[1] != files[2]


async def test_a_real_image_is_attributed_and_learned_from_like_any_other(client: Client) -> None:
    image, drawn = await taken(client, capture={"self_attention": True}), await client.generated(height=64, width=96)
    mask = np.zeros((50, 70), dtype=bool)
    mask[:, :35] = True
    learned = await client.run(client.optimization([client.example(image, mask)], "left"))
    assert isinstance(learned.result, OptimizeResult), learned.error
    targets = [CAT, TokenTarget(token="left@1")]
    for source in (image, drawn):
        refine = "affinity" if source is image else "none"
        answer = await client.attributed(source, *targets, settings={"refine": {"kind": refine}})
        assert isinstance(answer.result, AttributeResult), answer.error
        assert (answer.result.height, answer.result.width) == (64, 96)
        assert [segment.settings.refine.kind for segment in answer.result.segments] == [refine, refine]


async def test_a_job_that_is_canceled_stops_at_its_next_evaluation(client: Client) -> None:
    job_id = await submitted(client, inversion="ddim", num_inference_steps=900)
    await client.when(job_id, lambda seen: seen.progress is not None)
    await client.cancel(job_id)
    ended = await client.ended(job_id)
    assert ended.state is State.CANCELED
    assert ended.progress.done < 900
    assert await client.stored(keys.attempt_folder(job_id, 1)) == []


async def test_an_image_that_is_gone_is_reported(client: Client) -> None:
    record = await client.run(real_image(client.card(), upload()))
    assert (record.error.code, record.error.field) == (Code.IMAGE_UNREADABLE, "image")


@pytest.mark.parametrize("capture", [{"evaluations": 9}, {"evaluations": [-10]}])
async def test_an_evaluation_that_is_not_made_is_refused_before_anything_is(client: Client, capture: dict[str, Any]) -> None:
    record = await taken(client, capture=capture)
    assert (record.error.code, record.progress) == (Code.SELECTION_INVALID, None)


async def test_a_question_goes_before_a_real_image_that_is_being_taken(client: Client) -> None:
    source = await taken(client, timesteps=[5])
    job_id = await submitted(client, inversion="ddim", num_inference_steps=900)
    await client.when(job_id, lambda seen: seen.progress is not None)
    assert (await client.attributed(source)).state is State.SUCCEEDED
    assert (await client.ledger.get(job_id)).state is State.RUNNING
    await client.cancel(job_id)
    assert (await client.ended(job_id)).state is State.CANCELED


async def test_a_real_image_is_in_memory_and_leaves_the_models_scheduler_alone(client: Client, worker: Resources) -> None:
    scheduler = (await worker.models.get("sd1")).pipeline.scheduler
    before = scheduler.timesteps.clone()
    record = await taken(client, inversion="ddim", num_inference_steps=4)
    assert worker.scenes.get((record.id, 1, 0)) is not None
    assert torch.equal((await worker.models.get("sd1")).pipeline.scheduler.timesteps, before)


async def test_a_probe_looks_at_the_image_it_names(client: Client) -> None:
    source = await client.generated(num_images=2)
    asked = {"box": (10, 4, 20, 30), "words": ["cat", "dog"], "prompt": "a cat and a dog"}
    words = [(await client.run(client.probing(source, **asked, image=image))).result.words for image in (0, 1)]
    assert words[0] != words[1]


PLACES: list[dict[str, Any]] = [
    {"box": (5, 60, 1, 1), "words": ["dog", "cat"], "prompt": "a cat and a dog"},
    {"box": (10, 4, 20, 30), "words": ["a", "cat", "and", "dog"], "prompt": "a cat and a dog"},
    {
        "box": (0, 0, 64, 64),
        "words": ["cat", "a tree"],
        "prompt": "a cat, a tree",
        "padding": "max_length",
        "heads": 1,
        "evaluations": 0.5,
    },
    {"box": (0, 0, 1, 1), "words": ["cat", "hat"], "prompt": "a cat, a hat", "blocks": ["up_blocks.1", 4]},
]


@pytest.mark.parametrize("asked", PLACES)
async def test_a_probe_ranks_words_as_the_library_does(client: Client, worker: Resources, asked: dict[str, Any]) -> None:
    source = await client.generated()
    record = await client.run(client.probing(source, **asked))
    result = record.result
    assert isinstance(result, ProbeResult), record.error
    trace = await trace_of(client, worker, source)
    choices = {name: asked[name] for name in ("padding", "heads", "evaluations", "blocks") if name in asked}
    pipeline = (await worker.models.get("sd1")).pipeline
    expected = ovam.rank_words(trace, pipeline, asked["prompt"], asked["words"], box=asked["box"], **choices)
    assert result.prompt == asked["prompt"]
    assert [word.word for word in result.words] == [word.word for word in expected]
    for word, same in zip(result.words, expected, strict=True):
        assert (word.attention, word.fraction) == (pytest.approx(same.attention), pytest.approx(same.fraction))
        assert (word.gain, word.lift) == (pytest.approx(same.gain, abs=1e-7), pytest.approx(same.lift))


@pytest.mark.parametrize(("keep", "error"), [("queries", 0), ("replay", 1e-5)])
async def test_a_real_image_is_probed_from_memory_and_from_the_store_alike(
    client: Client, worker: Resources, keep: str, error: float
) -> None:
    source = await taken(client, capture={"keep": keep})
    asked = client.probing(source, box=(90, 60, 1, 1), words=["cat", "dog"], prompt="a photograph of a cat, a dog")
    warm = await client.run(asked)
    worker.scenes.forget_model("sd1")
    cold = await client.run(asked)
    for word, same in zip(cold.result.words, warm.result.words, strict=True):
        assert (word.word, word.attention) == (same.word, pytest.approx(same.attention, rel=error, abs=0))
