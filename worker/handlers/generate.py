"""Generate images and keep their traces."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Artifact
from contracts.schema.images import GeneratedImage, GenerateJob, ImagesResult
from contracts.schema.jobs import Progress
from contracts.state import keys
from contracts.state.store import File
from ovam.core.selection import select_positions
from ovam.tracing.capture import capture
from ovam.tracing.model import Pipeline
from ovam.tracing.trace import Trace
from worker.attempts import Attempt
from worker.device import Priority
from worker.models import Model, lent
from worker.outcomes import Outcome
from worker.rendering import BINARY, png
from worker.resources import Resources
from worker.scenes import Scene
from worker.traces import block_infos


async def generate(attempt: Attempt, job: GenerateJob, resources: Resources) -> Outcome:
    """Generate the images, commit them with their traces, and keep the traces in memory."""
    model = await resources.models.get(job.model)
    batch = resources.settings.batch_images
    scenes = await attempt.on_device(Priority.GENERATE, lambda: [*scenes_of(attempt, model, job, batch)])
    artifacts: dict[str, Artifact] = {}
    for index, scene in enumerate(scenes):  # one at a time: a file is as large as its trace
        attempt.check()
        for file in await asyncio.to_thread(files_of, scene, job, index):
            artifacts[file.name] = await resources.store.write(attempt.job_id, attempt.number, file)
    attempt.check()
    await resources.store.seal(attempt.job_id, attempt.number, [*artifacts.values()])
    for index, scene in enumerate(scenes):
        resources.scenes.keep((attempt.job_id, attempt.number, index), model.card.name, scene)
    return Outcome(result_of(job, scenes[0].trace, artifacts))


def scenes_of(attempt: Attempt, model: Model, job: GenerateJob, batch: int) -> Iterator[Scene]:
    """Run the pipeline, a batch of images at a time; image k depends on its own seed alone."""
    with lent(model, job.scheduler) as pipeline:
        options = {
            "half": job.capture.branch,
            "blocks": job.capture.blocks,
            "evaluations": kept_evaluations(pipeline, job),
            "heads": job.capture.heads,
            "mid_block": job.capture.mid_block,
            "self_attention": job.capture.self_attention,
        }
        seeds = seeds_of(job)
        groups = [seeds[start : start + batch] for start in range(0, len(seeds), batch)]
        for number, group in enumerate(groups):
            attempt.breathe()
            with capture(pipeline, **options) as traces:
                images = run_pipeline(attempt, pipeline, job, group, (number, len(groups)))
            for image, trace in zip(images, traces, strict=True):
                yield Scene(trace.to(device="cpu", dtype=torch.float16), np.asarray(image))


def run_pipeline(
    attempt: Attempt, pipeline: Pipeline, job: GenerateJob, seeds: Sequence[int], group: tuple[int, int]
) -> list[Image]:
    """Generate one batch and report every step. The noise is drawn on the CPU, so that a seed means the same everywhere."""
    number, groups = group

    def step_ended(running: Pipeline, step: int, _timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
        steps = running.num_timesteps
        attempt.report(Progress(done=number * steps + step + 1, total=groups * steps, unit="step"))
        attempt.breathe()
        return tensors

    return pipeline(
        prompt=[job.prompt] * len(seeds),
        # Without a negative prompt SDXL is guided away from zeros, not from an empty text.
        negative_prompt=[job.negative_prompt] * len(seeds) if job.negative_prompt else None,
        height=job.height,
        width=job.width,
        num_inference_steps=job.num_inference_steps,
        guidance_scale=job.guidance_scale,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        callback_on_step_end=step_ended,
        callback_on_step_end_tensor_inputs=[],
    ).images


def kept_evaluations(pipeline: Pipeline, job: GenerateJob) -> tuple[int, ...]:
    """Return which UNet evaluations are kept. How many there are is known to the scheduler alone.

    ServiceError (settings-contradict) when the scheduler does not take that many steps; SelectionError.
    """
    steps = job.num_inference_steps
    try:
        pipeline.scheduler.set_timesteps(steps)
    except ValueError as error:
        detail = f"{job.scheduler} does not take {steps} steps: {error}"
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="num_inference_steps", value=steps) from error
    return select_positions(job.capture.evaluations, len(pipeline.scheduler.timesteps), "capture.evaluations")


def seeds_of(job: GenerateJob) -> range:
    """Return the seed of every image."""
    return range(job.seed, job.seed + job.num_images)


def files_of(scene: Scene, job: GenerateJob, index: int) -> tuple[File, File]:
    """Encode an image, with the request that generates it again as text chunks, and its trace."""
    texts = {"prompt": job.prompt, "negative_prompt": job.negative_prompt}
    settings = job.model_dump(mode="json", exclude={*texts, "kind", "num_images"}) | {"seed": seeds_of(job)[index]}
    return (
        File(f"image-{index}.png", "image/png", png(scene.image, texts | {"settings": json.dumps(settings)})),
        File(keys.trace(index), BINARY, scene.trace.to_bytes()),
    )


def result_of(job: GenerateJob, trace: Trace, artifacts: Mapping[str, Artifact]) -> ImagesResult:
    """Describe the images and what is kept of them; the traces of a job's images are alike."""
    return ImagesResult(
        kind="generate",
        model=job.model,
        height=job.height,
        width=job.width,
        num_inference_steps=job.num_inference_steps,
        guidance_scale=job.guidance_scale,
        scheduler=job.scheduler,
        evaluations=len(trace.evaluations),
        timesteps=[*trace.timesteps],
        blocks=block_infos(trace),
        self_attention=bool(trace.self_attention),
        images=[
            GeneratedImage(
                index=index,
                seed=seed,
                image=artifacts[f"image-{index}.png"],
                trace_bytes=artifacts[keys.trace(index)].size,
            )
            for index, seed in enumerate(seeds_of(job))
        ],
    )
