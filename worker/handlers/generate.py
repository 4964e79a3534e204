"""Generate images and keep their traces."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Artifact
from contracts.schema.images import FilledCapture, GeneratedImage, GenerateJob, ImagesResult
from contracts.schema.jobs import Progress
from contracts.schema.models import ModelCard
from contracts.state.store import File
from ovam.core.selection import select_positions
from ovam.tracing.capture import capture, capture_replay
from ovam.tracing.model import Pipeline
from worker.attempts import Attempt
from worker.device import Priority
from worker.keeping import Taken, in_either_form, needs_self_attention, queries_bytes, stored_as
from worker.models import Model, lent
from worker.outcomes import Outcome
from worker.rendering import png
from worker.resources import Resources
from worker.traces import block_infos


async def generate(attempt: Attempt, job: GenerateJob, resources: Resources) -> Outcome:
    """Generate the images, commit them with their traces, and keep the traces in memory."""
    model = await resources.models.get(job.model)
    batch = resources.settings.batch_images
    room = resources.scenes.largest
    taken = await attempt.on_device(Priority.GENERATE, lambda: [*images_of(attempt, model, job, batch, room)])
    artifacts: dict[str, Artifact] = {}
    for index, each in enumerate(taken):  # one at a time: a file is as large as its trace
        attempt.check()
        for file in await asyncio.to_thread(files_of, each, job, index):
            artifacts[file.name] = await resources.store.write(attempt.job_id, attempt.number, file)
    attempt.check()
    await resources.store.seal(attempt.job_id, attempt.number, [*artifacts.values()])
    for index, each in enumerate(taken):
        if scene := each.scene(job.capture.precision):
            await resources.scenes.keep((attempt.job_id, attempt.number, index), model.card.name, scene)
    return Outcome(result_of(job, taken[0], artifacts))


def images_of(attempt: Attempt, model: Model, job: GenerateJob, batch: int, room: int) -> Iterator[Taken]:
    """Run the pipeline, a batch of images at a time; image k depends on its own seed alone."""
    with lent(model, job.scheduler) as pipeline:
        evaluations = kept_evaluations(pipeline, job)
        of_one = queries_bytes(pipeline, job.capture, model.card, (job.height, job.width), len(evaluations))
        seeds = seeds_of(job)
        groups = [seeds[start : start + batch] for start in range(0, len(seeds), batch)]
        for number, group in enumerate(groups):
            attempt.breathe()
            run = partial(run_pipeline, attempt, pipeline, job, group, (number, len(groups)))
            in_memory = (group.stop - seeds.start) * of_one <= room
            take = partial(captured, pipeline, model.card, job.capture, evaluations, run, in_memory)
            yield from in_either_form(take, replay=job.capture.keep == "replay", label=f"job {attempt.job_id}")


def captured(
    pipeline: Pipeline,
    card: ModelCard,
    options: FilledCapture,
    evaluations: tuple[int, ...],
    run: Callable[[], list[Image]],
    in_memory: bool,  # noqa: FBT001
    replay: bool,  # noqa: FBT001
) -> list[Taken]:
    """Draw images and keep their traces, unless these have no room in memory and need not be stored, and their replays."""
    kept = {
        "half": options.branch,
        "blocks": options.blocks,
        "evaluations": evaluations,
        "heads": options.heads,
        "mid_block": options.mid_block,
    }
    pixels = needs_self_attention(card) if replay else options.self_attention
    with ExitStack() as stack:
        traces = stack.enter_context(capture(pipeline, self_attention=pixels, **kept)) if in_memory or not replay else None
        replays = stack.enter_context(capture_replay(pipeline, **kept)) if replay else None
        images = run()
    nothing = [None] * len(images)
    return [
        Taken(np.asarray(image), trace, again)
        for image, trace, again in zip(images, traces or nothing, replays or nothing, strict=True)
    ]


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


def files_of(taken: Taken, job: GenerateJob, index: int) -> tuple[File, File]:
    """Encode an image, with the request that generates it again as text chunks, and what is stored of its attention."""
    texts = {"prompt": job.prompt, "negative_prompt": job.negative_prompt}
    settings = job.model_dump(mode="json", exclude={*texts, "kind", "num_images"}) | {"seed": seeds_of(job)[index]}
    return (
        File(f"image-{index}.png", "image/png", png(taken.image, texts | {"settings": json.dumps(settings)})),
        taken.file(index, job.capture.precision),
    )


def result_of(job: GenerateJob, taken: Taken, artifacts: Mapping[str, Artifact]) -> ImagesResult:
    """Describe the images and what is kept of them, which is alike for all of a job's images."""
    kept = taken.kept
    return ImagesResult(
        kind="generate",
        model=job.model,
        height=job.height,
        width=job.width,
        num_inference_steps=job.num_inference_steps,
        guidance_scale=job.guidance_scale,
        scheduler=job.scheduler,
        evaluations=len(kept.evaluations),
        timesteps=[float(step) for step in kept.timesteps],
        blocks=block_infos(kept),
        keep=taken.keep,
        self_attention=job.capture.self_attention if taken.replay is None else True,
        images=[
            GeneratedImage(
                index=index,
                seed=seed,
                image=artifacts[f"image-{index}.png"],
                trace_bytes=artifacts[stored_as(kept, index)].size,
            )
            for index, seed in enumerate(seeds_of(job))
        ],
    )
