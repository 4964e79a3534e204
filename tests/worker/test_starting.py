"""What a pipeline is called with: what a generation starts from, and how much each word of its prompt counts."""

from dataclasses import replace
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, HeunDiscreteScheduler
from PIL import Image

from contracts.schema.conditions import Emphasis, FilledControl, JobImage, Upload
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import GeneratedImage
from contracts.schema.jobs import State
from contracts.state import keys
from ovam.attention.text import encode
from tests.contracts.test_sources import FILE, RESULT
from tests.contracts.test_targets import MODEL
from tests.families import tiny_family
from tests.worker.client import Client
from tests.worker.jobs import generation
from worker.app import opened
from worker.drawing import kept_evaluations
from worker.emphasis import prompts_of
from worker.pipelines import KINDS, pipeline_of
from worker.settings import WorkerSettings
from worker.starting import Start, read, stored

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
MASK = np.arange(24).reshape(4, 6) > 11
FROM = JobImage(job_id="0" * 26)
JOB = generation(MODEL).model_copy(update={"height": 4, "width": 6, "strength": 0.4})
STEERED = JOB.model_copy(
    update={"control": FilledControl(name="edges", image=FROM, scale=0.7, start=0.2, end=0.9, weights="0" * 16)}
)


def arrays(given: dict[str, Any]) -> dict[str, Any]:
    """Arguments, with arrays in place of images."""
    return {
        name: [np.asarray(each).tolist() for each in value] if isinstance(value, list) else value for name, value in given.items()
    }


def test_a_pipeline_gets_what_its_kind_takes() -> None:
    text, image = Start(), Start(image=PIXELS)
    mask = replace(image, mask=MASK)
    assert (text.kind, image.kind, mask.kind) == ("text", "image", "mask")
    size, start = {"height": 4, "width": 6}, {"image": [PIXELS.tolist()] * 2, "strength": 0.4}
    anew = {"mask_image": [(MASK * 255).tolist()] * 2}
    assert text.arguments(JOB, 2) == size
    assert arrays(image.arguments(JOB, 2)) == start, "its size is the image's"
    assert arrays(mask.arguments(JOB, 2)) == size | start | anew


def test_a_pipeline_of_each_kind_keeps_the_models_parts_and_options() -> None:
    ends = {"text": "", "image": "Img2Img", "mask": "Inpaint"}
    for (double, followed, start), kind in KINDS.items():
        assert kind.__name__ == f"StableDiffusion{'XL' * double}{'ControlNet' * followed}{ends[start]}Pipeline"
    pipeline = tiny_family("sdxl")
    for forced in (True, False):
        pipeline.register_to_config(force_zeros_for_empty_prompt=forced)
        made = pipeline_of(pipeline, "image")
        assert type(made) is KINDS[True, False, "image"]
        assert made._progress_bar_config == {"disable": True}
        assert (made.unet, made.config.force_zeros_for_empty_prompt) == (pipeline.unet, forced)


def test_a_controlnet_and_an_image_prompt_come_beside_it() -> None:
    followed, looks = PIXELS[::-1], Image.new("RGB", (5, 7))
    size = {"height": 4, "width": 6}
    control = {"controlnet_conditioning_scale": 0.7, "control_guidance_start": 0.2, "control_guidance_end": 0.9}
    assert arrays(Start(control=followed).arguments(STEERED, 1)) == size | control | {"image": [followed.tolist()]}
    both = Start(image=PIXELS, control=followed, prompt=looks).arguments(STEERED, 1)
    assert both.pop("ip_adapter_image") is looks
    start = {"image": [PIXELS.tolist()], "strength": 0.4, "control_image": [followed.tolist()]}
    assert arrays(both) == size | control | start


def test_a_mask_is_of_the_pixels_of_its_image_and_an_image_prompt_keeps_its_size() -> None:
    job = JOB.model_copy(update={"image": FROM, "mask": [[0, 0, 6, 0, 6, 8, 0, 8]]})
    Image.new("RGB", (12, 8), "red").save(file := BytesIO(), "PNG")
    picture = file.getvalue()
    found = read(job, {"image": (picture, (8, 12)), "image_prompt.image": (picture, (8, 12))})
    assert found.image is not None
    assert found.prompt is not None
    assert found.mask is not None
    assert found.image.shape == (4, 6, 3)
    assert found.prompt.size == (12, 8)
    assert found.mask.tolist() == [[True] * 3 + [False] * 3] * 4, "the left half of an image of twice the size"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of schedulers that call NumPy with tensors
def test_of_the_steps_that_are_not_made_no_evaluation_is_kept() -> None:
    pipeline = tiny_family("sd1")
    for kind, count in ((DDIMScheduler, 2), (HeunDiscreteScheduler, 3)):  # which evaluates twice a step, and once in the last
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
        job = JOB.model_copy(update={"num_inference_steps": 4, "strength": 0.5})
        assert kept_evaluations(pipeline, job) == tuple(range(count))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_word_moves_its_rows_where_it_is_asked_to_and_nothing_else(family: str) -> None:
    pipeline, prompts = tiny_family(family), ["a cat and a cat", "a cat"]
    options = {"prompt": prompts[0], "clip_skip": 1, "emphasis": [Emphasis(word="cat", weight=1.5, occurrence=0)]}
    found = prompts_of(pipeline, JOB.model_copy(update=options), prompts)
    rows = found["prompt_embeds"]
    empty, _ = encode(pipeline, "", padding="max_length", clip_skip=1)
    for number, prompt in enumerate(prompts):
        expected, tokens = encode(pipeline, prompt, padding="max_length", clip_skip=1)
        at = next(token.index for token in tokens if token.text == "cat")
        expected = expected.clone()
        expected[at] = empty[at] + 1.5 * (expected[at] - empty[at])
        torch.testing.assert_close(rows[number], expected)
    assert ("pooled_prompt_embeds" in found) == (family == "sdxl")
    if family == "sdxl":
        own = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False, clip_skip=1)[2]
        torch.testing.assert_close(found["pooled_prompt_embeds"], own)


def test_a_prompt_without_emphasis_is_left_to_the_pipeline_unless_layers_are_left_out() -> None:
    plain, skipping = JOB, JOB.model_copy(update={"clip_skip": 1})
    sd1, sdxl = tiny_family("sd1"), tiny_family("sdxl")
    assert prompts_of(sd1, plain, ["a cat"]) == prompts_of(sdxl, skipping, ["a cat"]) == {"prompt": ["a cat"]}
    own, _ = encode(sd1, "a cat", padding="max_length", clip_skip=1)
    torch.testing.assert_close(prompts_of(sd1, skipping, ["a cat"])["prompt_embeds"], own[None])


async def test_a_file_is_the_one_that_is_named_with_the_size_of_its_image(client: Client, settings: WorkerSettings) -> None:
    record = await client.record(generation(MODEL))
    files = [FILE.model_copy(update={"name": f"image-{number}.png"}) for number in range(2)]
    images = [GeneratedImage(index=number, seed=number, image=file, trace_bytes=1) for number, file in enumerate(files)]
    result = RESULT.model_copy(update={"height": 4, "width": 6, "images": images})
    done = record.changed(state=State.SUCCEEDED, attempt=1, result=result, finished_at=record.created_at)
    await client.ledger.change(record.id, lambda _: done)
    for number, file in enumerate(files):
        await client.store.put(f"{keys.attempt_folder(record.id, 1)}/{file.name}", b"%d" % number)
    await client.store.put(keys.upload(record.id, "image"), b"mine")
    upload = Upload(media_type="image/png", size=4, sha256="0" * 64, height=3, width=5)
    async with opened(settings) as resources:
        read_of = partial(stored, record.id, resources=resources)
        assert await read_of(JobImage(job_id=record.id, image=1), field="image") == (b"1", (4, 6))
        assert await read_of(upload, field="image") == (b"mine", (3, 5))
        for source, named, field, code in (
            (JobImage(job_id=record.id, image=2), "image", "image.image", Code.IMAGE_INDEX),
            (upload, "control.image", "control.image", Code.IMAGE_UNREADABLE),
        ):
            with pytest.raises(ServiceError) as caught:
                await read_of(source, field=named)
            assert (caught.value.code, caught.value.field) == (code, field)
