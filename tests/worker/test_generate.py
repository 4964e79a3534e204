"""Every family of models, every scheduler and every option of capture, through a worker."""

import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ovam
from contracts.schema.errors import Code
from contracts.schema.images import CaptureOptions, ImagesResult
from contracts.schema.jobs import JobRecord, State
from contracts.state import keys
from ovam.core.selection import Span
from tests.families import tiny_family
from tests.ovam.reference import aggregate, record_attention
from tests.pipelines import tiny_scheduler
from tests.worker.client import Client
from worker import schedulers
from worker.device import Priority
from worker.resources import Resources
from worker.settings import WorkerSettings

pytestmark = [
    pytest.mark.usefixtures("worker"),
    # diffusers' schedulers meet a newer NumPy
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

FAMILIES = ("sd1", "sd2", "sdxl")
PROMPT, AGAINST = "a photograph of a cat", "a dog"
BRANCHES = {"unconditional": (0, AGAINST), "conditional": (1, PROMPT)}  # rows of the guidance batch, and their prompts
every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="session")
def family_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A model of every family, and one whose own scheduler has no kin and which keeps self-attention."""
    folder = tmp_path_factory.mktemp("families")
    pipelines = {name: tiny_family(name) for name in FAMILIES} | {"lcm": tiny_family("sd1", "lcm")}
    for name, pipeline in pipelines.items():
        pipeline.save_pretrained(folder / name)
    (folder / "lcm" / "ovam.json").write_text('{"default_self_attention": true}')
    return {name: str(folder / name) for name in pipelines}


@pytest.fixture
def settings(settings: WorkerSettings, family_folders: dict[str, str]) -> WorkerSettings:
    changed = {"models": family_folders, "default_model": "sd1", "max_loaded_models": len(family_folders)}
    return settings.model_copy(update=changed)


async def trace_of(client: Client, worker: Resources, record: JobRecord, image: int = 0) -> ovam.Trace:
    """A trace as the store has it."""
    assert isinstance(record.result, ImagesResult)
    model = await worker.models.get(record.result.model)
    return await client.trace(record, model.pipeline, image)


async def pixels_of(client: Client, record: JobRecord, image: int = 0) -> np.ndarray:
    with Image.open(BytesIO(await client.artifact(record, f"image-{image}.png"))) as found:
        return np.asarray(found).astype(int)


@every_family
async def test_every_family_draws_several_images_of_any_shape_and_keeps_what_was_asked(
    client: Client, worker: Resources, family: str
) -> None:
    options = CaptureOptions(
        blocks=["up_blocks.0", 8], mid_block=True, evaluations=Span(start=1), heads=[0, -1], self_attention=True
    )
    record = await client.generated(
        model=family, height=128, width=64, num_images=5, scheduler="HeunDiscreteScheduler", capture=options
    )
    result = record.result
    assert isinstance(result, ImagesResult)
    assert (result.height, result.width, result.scheduler, result.self_attention) == (128, 64, "HeunDiscreteScheduler", True)
    assert result.evaluations == len(result.timesteps) == 4  # of the five that Heun makes of three steps
    assert all("up_blocks.0" in block.name or block.grid == (8, 4) for block in result.blocks)
    assert {block.heads for block in result.blocks} == {2}
    for image in range(5):
        assert (await pixels_of(client, record, image)).shape == (128, 64, 3)
        trace = await trace_of(client, worker, record, image)
        assert [(block.name, block.grid, block.heads) for block in trace.blocks] == [
            (block.name, block.grid, block.heads) for block in result.blocks
        ]
        assert list(trace.timesteps) == result.timesteps
        assert {block.grid for block in trace.self_attention} == {(16, 8)} if family != "sdxl" else {(8, 4)}
    other = await trace_of(client, worker, record, 1)
    assert not torch.equal(trace.blocks[0].queries, other.blocks[0].queries)


@every_family
@pytest.mark.parametrize("branch", BRANCHES)
async def test_the_maps_of_the_guidance_branch_that_was_kept_are_its_own_attention(
    client: Client, worker: Resources, family_folders: dict[str, str], family: str, branch: str
) -> None:
    asked = {"seed": 7, "guidance_scale": 4.0, "height": 64, "width": 96, "num_inference_steps": 3}
    record = await client.generated(family, prompt=PROMPT, negative_prompt=AGAINST, capture={"branch": branch}, **asked)
    trace = await trace_of(client, worker, record)
    assert trace.half == branch

    pipeline = type(tiny_family(family)).from_pretrained(family_folders[family], dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    recorded = record_attention(pipeline)
    seed = torch.Generator().manual_seed(asked.pop("seed"))
    image = pipeline(PROMPT, negative_prompt=AGAINST, generator=seed, **asked).images[0]
    assert np.abs(await pixels_of(client, record) - np.asarray(image).astype(int)).max() <= 1

    row, prompt = BRANCHES[branch]
    embedding, _ = ovam.encode(pipeline, prompt, padding="max_length")
    expected = aggregate(recorded, row, {block.name: block.grid for block in trace.blocks})
    found = ovam.heatmaps(trace, embedding, reduction="sum").double()
    assert float((found - expected).abs().max() / expected.max()) < 2e-3  # a trace is stored in half precision


@every_family
async def test_an_image_without_a_negative_prompt_is_the_pipelines(
    client: Client, family_folders: dict[str, str], family: str
) -> None:
    asked = {"guidance_scale": 9.0, "height": 64, "width": 64, "num_inference_steps": 3}
    record = await client.generated(family, prompt=PROMPT, seed=7, **asked)
    pipeline = type(tiny_family(family)).from_pretrained(family_folders[family], dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    expected = np.asarray(pipeline(PROMPT, generator=torch.Generator().manual_seed(7), **asked).images[0]).astype(int)
    assert np.abs(await pixels_of(client, record) - expected).max() <= 1


@pytest.mark.parametrize("scheduler", schedulers.names(tiny_scheduler("ddim")))
async def test_every_scheduler_draws_an_image_from_its_own_seed_alone(client: Client, scheduler: str) -> None:
    for family in ("sd1", "sd2"):  # they predict noise, and velocity
        asked = {"model": family, "scheduler": scheduler, "num_inference_steps": 4}
        several = await client.generated(seed=5, num_images=2, **asked)
        single = await client.generated(seed=6, **asked)
        assert several.result.scheduler == scheduler
        assert single.result.evaluations == len(single.result.timesteps) >= 4
        assert np.abs(await pixels_of(client, several, 1) - await pixels_of(client, single)).max() <= 1


async def test_a_model_keeps_its_own_scheduler_when_it_has_no_kin(client: Client) -> None:
    record = await client.generated(model="lcm")
    assert record.result.scheduler == "LCMScheduler"
    assert client.card("lcm").schedulers == ["LCMScheduler"]


@pytest.mark.parametrize("capture", [CaptureOptions(), CaptureOptions(evaluations=99)])
async def test_no_job_leaves_its_scheduler_behind(client: Client, worker: Resources, capture: CaptureOptions) -> None:
    plain = await client.generated()
    asked = client.generation(scheduler="EulerAncestralDiscreteScheduler", num_inference_steps=5, capture=capture)
    record = await client.run(asked)
    assert record.state is (State.SUCCEEDED if capture.evaluations == "all" else State.FAILED)
    shared = (await worker.models.get("sd1")).pipeline
    assert type(shared.scheduler).__name__ == shared.config.scheduler[1] == "DDIMScheduler"
    again = await client.generated()
    assert again.result.scheduler == "DDIMScheduler"
    assert (await pixels_of(client, again) == await pixels_of(client, plain)).all()


async def test_work_that_comes_between_meets_the_models_own_scheduler_and_disturbs_no_image(
    client: Client, worker: Resources
) -> None:
    asked = client.generation(scheduler="EulerDiscreteScheduler", num_inference_steps=200)
    alone = await client.run(asked)
    job_id = await client.submit(asked)
    await client.when(job_id, lambda record: record.progress is not None)
    model = await worker.models.get("sd1")

    def between() -> str:
        model.pipeline.scheduler.set_timesteps(7)
        return type(model.pipeline.scheduler).__name__

    assert worker.gate.submit(Priority.INTERACTIVE, between).result(timeout=20) == "DDIMScheduler"
    assert not (await client.ledger.get(job_id)).state.final
    assert (await pixels_of(client, await client.ended(job_id)) == await pixels_of(client, alone)).all()


BAD: list[tuple[dict[str, Any], Code, str]] = [
    ({"capture": {"evaluations": [0, 3]}}, Code.SELECTION_INVALID, "capture.evaluations"),
    ({"capture": {"evaluations": {"start": 3}}}, Code.SELECTION_INVALID, "capture.evaluations"),
    ({"model": "lcm", "num_inference_steps": 60}, Code.SETTINGS_CONTRADICT, "num_inference_steps"),
]


@pytest.mark.parametrize(("changed", "code", "field"), BAD)
async def test_what_only_the_scheduler_knows_fails_with_its_field_before_anything_is_generated(
    client: Client, changed: dict[str, Any], code: Code, field: str
) -> None:
    record = await client.run(client.generation(**changed))
    assert record.error is not None, record
    assert (record.error.code, record.error.field) == (code, field)
    assert record.progress is None
    assert await client.stored("jobs") == []


async def test_the_picture_holds_all_that_draws_it_again(client: Client) -> None:
    several = await client.generated(
        num_images=2, capture={"heads": 0}, scheduler="DEISMultistepScheduler", negative_prompt="a dog"
    )
    with Image.open(BytesIO(await client.artifact(several, "image-1.png"))) as image:
        notes = image.text
    settings = json.loads(notes.pop("settings"))
    again = await client.generated(**notes, **settings)
    assert np.abs(await pixels_of(client, again) - await pixels_of(client, several, 1)).max() <= 1
    assert settings["capture"]["heads"] == 0
    assert settings["seed"] == several.result.images[1].seed == several.result.images[0].seed + 1
    for image in several.result.images:
        assert image.trace_bytes == len(await client.artifact(several, keys.replay(image.index)))
    assert again.result.model_dump(exclude={"images"}) == several.result.model_dump(exclude={"images"})


async def test_an_evaluation_is_counted_as_its_scheduler_makes_them(client: Client, worker: Resources) -> None:
    asked = {"scheduler": "HeunDiscreteScheduler", "num_inference_steps": 3}
    whole = await trace_of(client, worker, await client.generated(**asked))
    assert len(whole.evaluations) == 5
    last = await trace_of(client, worker, await client.generated(**asked, capture={"evaluations": [-1]}))
    assert (last.evaluations, last.timesteps) == ((4,), whole.timesteps[-1:])


async def test_self_attention_is_kept_as_the_models_card_says_unless_a_request_does(client: Client) -> None:
    queries = {"keep": "queries"}
    assert (await client.generated(model="lcm", capture=queries)).result.self_attention
    assert not (await client.generated(model="lcm", capture=queries | {"self_attention": False})).result.self_attention
    assert not (await client.generated(model="sd1", capture=queries)).result.self_attention
    for capture in ({}, {"self_attention": False}):
        assert (await client.generated(model="sd1", capture=capture)).result.self_attention  # a replay has it anyway
