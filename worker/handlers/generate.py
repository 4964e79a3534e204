"""Generate images and keep their traces."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

import ovam
from contracts import keys
from contracts.capabilities import check, filled
from contracts.errors import Code, ServiceError
from contracts.fields import Artifact
from contracts.generation import FilledRequest, GeneratedImage, GenerateRequest, GenerateResult
from contracts.jobs import Progress
from contracts.selections import positions
from contracts.store import File
from ovam.model import Pipeline
from worker.attempts import Attempt
from worker.choices import blocks_of, kept
from worker.gpu import Priority
from worker.models import Model, lent
from worker.rendering import png
from worker.resources import Resources
from worker.traces import Scene

BINARY = "application/octet-stream"


async def generate(attempt: Attempt, request: GenerateRequest, resources: Resources) -> GenerateResult:
    """Draw the images, commit them with their traces, and keep the traces at hand."""
    model = await resources.models.get(request.model or resources.settings.default)
    run = filled(request, model.card)
    check(run, model.card)
    scenes = await attempt.on_device(Priority.GENERATE, lambda: list(draw(attempt, model, run, resources.settings.batch_images)))
    artifacts: dict[str, Artifact] = {}
    for index, scene in enumerate(scenes):  # one at a time: a file is as large as its trace
        attempt.check()
        for file in await asyncio.to_thread(files_of, scene, run, index):
            artifacts[file.name] = await resources.store.write(attempt.job_id, attempt.number, file)
    attempt.check()
    await resources.store.seal(attempt.job_id, attempt.number, [*artifacts.values()])
    for index, scene in enumerate(scenes):
        resources.scenes.keep((attempt.job_id, attempt.number, index), model.card.name, scene)
    return result_of(run, scenes[0].trace, artifacts)


def draw(attempt: Attempt, model: Model, request: FilledRequest, batch: int) -> Iterator[Scene]:
    """Run the pipeline, a batch of images at a time; image k depends on its own seed alone."""
    with lent(model, request.scheduler) as pipeline:
        require_short(pipeline, model.card.max_tokens, request)
        evaluations = kept_evaluations(pipeline, request)
        choice = kept(request.capture, model.card, (request.height, request.width))
        seeds = seeds_of(request)
        groups = [seeds[start : start + batch] for start in range(0, len(seeds), batch)]
        for number, group in enumerate(groups):
            attempt.breathe()
            with ovam.capture(pipeline, half=request.capture.half, evaluations=evaluations, **choice) as traces:
                images = run_pipeline(attempt, pipeline, request, group, (number, len(groups)))
            for image, trace in zip(images, traces, strict=True):
                yield Scene(trace.to(device="cpu", dtype=torch.float16), np.asarray(image))


def run_pipeline(
    attempt: Attempt, pipeline: Pipeline, request: FilledRequest, seeds: Sequence[int], group: tuple[int, int]
) -> list[Image]:
    """Draw one batch, telling of every step. The noise is drawn on the CPU, so that a seed means the same everywhere."""
    number, groups = group

    def step_ended(running: Pipeline, step: int, _timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
        steps = running.num_timesteps
        attempt.report(Progress(done=number * steps + step + 1, total=groups * steps, unit="step"))
        attempt.breathe()
        return tensors

    return pipeline(
        prompt=[request.prompt] * len(seeds),
        # Without a negative prompt SDXL is guided away from zeros, not from an empty text.
        negative_prompt=[request.negative_prompt] * len(seeds) if request.negative_prompt else None,
        height=request.height,
        width=request.width,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        callback_on_step_end=step_ended,
        callback_on_step_end_tensor_inputs=[],
    ).images


def require_short(pipeline: Pipeline, limit: int, request: FilledRequest) -> None:
    """Refuse a text that the pipeline would silently cut. ServiceError: prompt-too-long."""
    tokenizers = [pipeline.tokenizer, getattr(pipeline, "tokenizer_2", pipeline.tokenizer)]
    for field, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt)):
        tokens = max(len(tokenizer(text, verbose=False)["input_ids"]) for tokenizer in tokenizers)
        if tokens > limit:
            detail = f"{field} has {tokens} tokens, start and end included; allowed: {limit}"
            raise ServiceError(Code.PROMPT_TOO_LONG, detail, field=field, value=text)


def kept_evaluations(pipeline: Pipeline, request: FilledRequest) -> list[int]:
    """The UNet evaluations to be kept, of as many as the scheduler makes of the steps.

    ServiceError: settings-contradict when the scheduler does not take so many or so few steps, selection-invalid.
    """
    steps = request.num_inference_steps
    try:
        pipeline.scheduler.set_timesteps(steps)
    except ValueError as error:
        detail = f"{request.scheduler} does not take {steps} steps: {error}"
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="num_inference_steps", value=steps) from error
    return positions(request.capture.evaluations, len(pipeline.scheduler.timesteps), field="capture.evaluations")


def seeds_of(request: FilledRequest) -> range:
    """The seed of every image."""
    return range(request.seed, request.seed + request.num_images)


def files_of(scene: Scene, request: FilledRequest, index: int) -> tuple[File, File]:
    """An image with all that draws it again as text chunks, and its trace."""
    texts = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
    settings = request.model_dump(mode="json", exclude={*texts, "num_images"}) | {"seed": seeds_of(request)[index]}
    return (
        File(f"image-{index}.png", "image/png", png(scene.image, texts | {"settings": json.dumps(settings)})),
        File(keys.trace(index), BINARY, scene.trace.to_bytes()),
    )


def result_of(request: FilledRequest, trace: ovam.Trace, artifacts: Mapping[str, Artifact]) -> GenerateResult:
    """What was drawn, and what is kept of it: the traces of a job's images are alike."""
    return GenerateResult(
        model=request.model,
        height=request.height,
        width=request.width,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        scheduler=request.scheduler,
        evaluations=len(trace.evaluations),
        timesteps=[*trace.timesteps],
        blocks=blocks_of(trace),
        self_attention=bool(trace.self_attention),
        images=[
            GeneratedImage(
                index=index,
                seed=seed,
                image=artifacts[f"image-{index}.png"],
                trace_bytes=artifacts[keys.trace(index)].size,
            )
            for index, seed in enumerate(seeds_of(request))
        ],
    )
