"""Keep the pixel queries of a real image."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from contracts.rules.capabilities import evaluations_of
from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Artifact
from contracts.schema.images import GeneratedImage, ImageJob, ImagesResult
from contracts.schema.jobs import Progress
from contracts.state import keys
from contracts.state.store import File
from ovam.real_images import Course, observed
from ovam.tracing.recorder import Choice
from worker.attempts import Attempt
from worker.device import Priority
from worker.keeping import Taken, in_either_form, needs_self_attention, stored_as
from worker.models import Model, lent
from worker.outcomes import Outcome
from worker.pictures import read_picture
from worker.rendering import png
from worker.resources import Resources
from worker.traces import block_infos, timesteps_of

NO_GUIDANCE = 1.0


async def image(attempt: Attempt, job: ImageJob, resources: Resources) -> Outcome:
    """Run the UNet on the noised image, and commit the image with its trace."""
    model = await resources.models.get(job.model)
    data = await resources.store.get(keys.upload(attempt.job_id))
    if data is None:
        raise ServiceError(Code.IMAGE_UNREADABLE, "the image that came with the request is gone from the store", field="image")
    pixels = await asyncio.to_thread(read_picture, data, (job.height, job.width))
    taken = await attempt.on_device(Priority.GENERATE, lambda: traced(attempt, model, job, pixels))
    files = await asyncio.to_thread(files_of, taken, job)
    attempt.check()
    artifacts = await resources.store.commit(attempt.job_id, attempt.number, files)
    if scene := taken.scene(job.capture.precision):
        await resources.scenes.keep((attempt.job_id, attempt.number, 0), model.card.name, scene)
    return Outcome(result_of(job, model, taken, artifacts))


def traced(attempt: Attempt, model: Model, job: ImageJob, pixels: UInt8[np.ndarray, "height width 3"]) -> Taken:
    """Keep the image's trace and replay, and report every evaluation."""

    def evaluated(done: int, total: int) -> None:
        attempt.report(Progress(done=done, total=total, unit="evaluation"))
        attempt.breathe()

    attempt.breathe()
    options = job.capture
    course = Course(job.prompt, job.timesteps, job.inversion, evaluations_of(job), job.seed, evaluated)
    kept = Choice("conditional", options.blocks, options.evaluations, options.heads, options.mid_block, options.self_attention)

    def take(replay: bool) -> Taken:  # noqa: FBT001
        pixels_too = needs_self_attention(model.card) if replay else options.self_attention
        choices = [replace(kept, self_attention=pixels_too)]
        choices += [replace(kept, self_attention=True, keep="replay")] if replay else []
        with lent(model) as pipeline:
            recorders = observed(pipeline, pixels, course, *choices)
        return Taken(pixels, next(recorders[0].traces()), next(recorders[1].replays()) if replay else None)

    return in_either_form(take, replay=options.keep == "replay", label=f"job {attempt.job_id}")


def files_of(taken: Taken, job: ImageJob) -> tuple[File, File]:
    """Encode the image as the UNet saw it, with the request as text chunks, and what is stored of its attention."""
    settings = job.model_dump(mode="json", exclude={"kind", "prompt"})
    notes = {"prompt": job.prompt, "settings": json.dumps(settings)}
    return (
        File("image-0.png", "image/png", png(taken.image, notes)),
        taken.file(0, job.capture.precision),
    )


def result_of(job: ImageJob, model: Model, taken: Taken, artifacts: Mapping[str, Artifact]) -> ImagesResult:
    """Describe the image as if it had been generated, in as many steps as there were evaluations."""
    kept = taken.kept
    return ImagesResult(
        kind="image",
        model=job.model,
        weights=model.weights,
        height=job.height,
        width=job.width,
        num_inference_steps=evaluations_of(job),
        guidance_scale=NO_GUIDANCE,
        scheduler=model.card.default_scheduler,
        evaluations=len(kept.evaluations),
        timesteps=timesteps_of(kept),
        blocks=block_infos(kept),
        keep=taken.keep,
        self_attention=job.capture.self_attention if taken.replay is None else True,
        images=[
            GeneratedImage(index=0, seed=job.seed, image=artifacts["image-0.png"], trace_bytes=artifacts[stored_as(kept, 0)].size)
        ],
    )
