"""What a job is expected to take, held against what it takes: real jobs on a real, tiny model."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from contracts.rules.estimates import estimate
from contracts.schema.estimates import Estimate
from contracts.schema.jobs import AnyJob, JobRecord
from contracts.schema.models import ModelCard
from contracts.state import keys
from tests.worker.client import Client
from tests.worker.jobs import CAT, DOG, real_image
from worker.cards import read_card
from worker.schedulers import EVALUATIONS, names, new_scheduler, read_scheduler
from worker.settings import BUNDLED, WorkerSettings
from worker.sizes import run_here

WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
quietly = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of schedulers that call NumPy with tensors
with_worker = pytest.mark.usefixtures("worker")


def estimated(job: AnyJob, card: ModelCard, *sources: JobRecord) -> Estimate:
    found = estimate(job, card, [source.result for source in sources])
    assert found is not None
    return found


def picture_of(height: int, width: int) -> bytes:
    """A PNG of noise."""
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


async def kept(client: Client, record: JobRecord) -> int:
    """The bytes of a job's folder in the store."""
    return sum([len(await client.store.get(key) or b"") for key in await client.stored(keys.job_folder(record.id))])


@quietly
@with_worker
@pytest.mark.parametrize(
    "fields",
    [
        {"num_inference_steps": 20},
        {"num_inference_steps": 20, "num_images": 3, "height": 128, "width": 96},
        {"num_inference_steps": 20, "capture": {"self_attention": True}},
        {"num_inference_steps": 20, "capture": {"mid_block": True, "heads": [0], "evaluations": {"start": 4}}},
        {"num_inference_steps": 20, "capture": {"blocks": ["up"]}},
        {"num_inference_steps": 20, "scheduler": "HeunDiscreteScheduler"},
        {"num_inference_steps": 20, "scheduler": "PNDMScheduler"},
    ],
)
async def test_the_files_of_images_are_as_large_as_estimated(fields: dict, client: Client) -> None:
    job = client.generation(**fields)
    record = await client.generated(**fields)
    assert estimated(job, client.card()).kept_bytes == pytest.approx(await kept(client, record), rel=0.1)


@with_worker
async def test_a_heatmap_and_its_pictures_are_as_large_as_estimated(client: Client) -> None:
    source = await client.generated(num_inference_steps=4, height=256, width=256, capture={"self_attention": True})
    settings = {"refine": {"kind": "affinity", "steps": 1}, "threshold": {"kind": "share", "tau": 0.5, "normalize": "minmax"}}
    for options in ({}, {"settings": settings}, {"maps": ["block", "evaluation", "head"]}):
        job = await client.attribution(source, CAT, DOG, **options)
        record = await client.run(job)
        assert record.state == "succeeded", record.error
        assert estimated(job, client.card(), source).kept_bytes == pytest.approx(await kept(client, record), rel=0.25)


@with_worker
async def test_a_real_image_keeps_its_upload_too(client: Client) -> None:
    data = picture_of(128, 96)
    job = real_image(client.card(), data, (128, 96), capture={"self_attention": True})
    record = await client.record(job)
    await client.store.put(keys.upload(record.id), data)
    await client.deliver(record)
    record = await client.ended(record.id)
    assert estimated(job, client.card()).kept_bytes == pytest.approx(await kept(client, record), rel=0.1)


@with_worker
async def test_a_probe_keeps_nothing_and_a_token_little(client: Client) -> None:
    source = await client.generated()
    assert estimated(client.probing(source, prompt="a cat", words=["cat"]), client.card(), source).kept_bytes == 0
    job = client.optimization([client.example(source)])
    record = await client.run(job)
    tokens = [key for key in await client.stored("tokens") if key]
    files = await kept(client, record) + sum([len(await client.store.get(key) or b"") for key in tokens])
    assert files / 3 < estimated(job, client.card(), source).kept_bytes < files * 3


@quietly
def test_evaluations_are_counted_for_every_scheduler() -> None:
    own = read_scheduler(str(BUNDLED), "DDIMScheduler")
    for name in names(own):
        per_step, further = EVALUATIONS.get(name, (1, 0))
        for steps in (12, 30):
            scheduler = new_scheduler(name, own)
            scheduler.set_timesteps(steps)
            assert len(scheduler.timesteps) == per_step * steps + further, name


MEASURE = """
import re, sys, torch
from pathlib import Path
import ovam
from contracts.rules.capabilities import generate_job
from contracts.rules.estimates import estimate, weights
from contracts.schema.images import GenerateRequest
from worker.models import load_model

def memory(name):
    return int(re.findall(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[0]) * 1024

torch.set_num_threads(1)
model = load_model("world", sys.argv[1], device=torch.device("cpu"), dtype=torch.float32, default=True)
model.pipeline("a cat", num_inference_steps=1, height=64, width=64)
before = memory("VmRSS")
request = GenerateRequest(prompt="a cat", height=256, width=256, num_inference_steps=8, capture={"self_attention": True})
with ovam.capture(model.pipeline, self_attention=True) as traces:
    model.pipeline("a cat", height=256, width=256, num_inference_steps=8, guidance_scale=3.0)
kept = [trace.to(dtype=torch.float16) for trace in traces]
card = model.card
print(memory("VmHWM") - before, estimate(generate_job(request, card), card).memory_bytes - weights(card.sizes))
"""


@pytest.mark.e2e
def test_memory_is_estimated_to_a_factor_of_two() -> None:
    root = BUNDLED.parents[1]
    done = subprocess.run([sys.executable, "-c", MEASURE, str(BUNDLED)], cwd=root, capture_output=True, text=True, check=True)
    measured, estimated_bytes = map(int, done.stdout.split())
    assert measured / 2 < estimated_bytes < measured * 2, (measured, estimated_bytes)


def test_a_card_says_how_a_worker_runs_the_model() -> None:
    card = read_card("world", str(BUNDLED), default=True)
    here = run_here(card, WorkerSettings(batch_images=3), torch.device("cpu"), torch.float16).sizes
    assert (here.number_bytes, here.batch_images, here.on_cpu, here.parameters) == (2, 3, True, card.sizes.parameters)
    assert here.device_bytes > 1 << 28
    assert run_here(card.model_copy(update={"sizes": None}), WorkerSettings(), torch.device("cpu"), torch.float32).sizes is None


def test_the_bundled_models_parameters_are_those_of_its_weights() -> None:
    stored = 0
    for file in set(BUNDLED.glob("*/*.safetensors")) - set(BUNDLED.glob("networks/*")):
        with safe_open(file, "pt") as tensors:
            stored += sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118
    assert read_card("world", str(BUNDLED), default=True).sizes.parameters == pytest.approx(stored, rel=0.01)
