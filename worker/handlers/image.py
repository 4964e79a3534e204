"""Keep the pixel queries of a real image."""

import asyncio
import json
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import UInt8

from contracts.rules.capabilities import evaluations_of
from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Artifact
from contracts.schema.images import GeneratedImage, ImageJob, ImagesResult
from contracts.schema.jobs import Progress
from contracts.state import keys
from contracts.state.store import File
from ovam.real_images import trace_image
from worker.attempts import Attempt
from worker.device import Priority
from worker.models import Model, lent
from worker.outcomes import Outcome
from worker.pictures import read_picture
from worker.rendering import BINARY, png
from worker.resources import Resources
from worker.scenes import Scene
from worker.traces import block_infos

NO_GUIDANCE = 1.0


async def image(attempt: Attempt, job: ImageJob, resources: Resources) -> Outcome:
    """Run the UNet on the noised image, and commit the image with its trace."""
    model = await resources.models.get(job.model)
    data = await resources.store.get(keys.upload(attempt.job_id))
    if data is None:
        raise ServiceError(Code.IMAGE_UNREADABLE, "the image that came with the request is gone from the store", field="image")
    pixels = await asyncio.to_thread(read_picture, data, (job.height, job.width))
    scene = await attempt.on_device(Priority.GENERATE, lambda: traced(attempt, model, job, pixels))
    files = await asyncio.to_thread(files_of, scene, job)
    attempt.check()
    artifacts = await resources.store.commit(attempt.job_id, attempt.number, files)
    resources.scenes.keep((attempt.job_id, attempt.number, 0), model.card.name, scene)
    return Outcome(result_of(job, model, scene, artifacts))


def traced(attempt: Attempt, model: Model, job: ImageJob, pixels: UInt8[np.ndarray, "height width 3"]) -> Scene:
    """Keep the image's trace, and report every evaluation."""

    def evaluated(done: int, total: int) -> None:
        attempt.report(Progress(done=done, total=total, unit="evaluation"))
        attempt.breathe()

    attempt.breathe()
    with lent(model) as pipeline:
        trace = trace_image(
            pipeline,
            pixels,
            prompt=job.prompt,
            timesteps=job.timesteps,
            inversion=job.inversion,
            num_inference_steps=evaluations_of(job),
            seed=job.seed,
            blocks=job.capture.blocks,
            evaluations=job.capture.evaluations,
            heads=job.capture.heads,
            mid_block=job.capture.mid_block,
            self_attention=job.capture.self_attention,
            on_evaluation=evaluated,
        )
    return Scene(trace.to(device="cpu", dtype=torch.float16), pixels)


def files_of(scene: Scene, job: ImageJob) -> tuple[File, File]:
    """Encode the image as the UNet saw it, with the request as text chunks, and its trace."""
    settings = job.model_dump(mode="json", exclude={"kind", "prompt"})
    notes = {"prompt": job.prompt, "settings": json.dumps(settings)}
    return (
        File("image-0.png", "image/png", png(scene.image, notes)),
        File(keys.trace(0), BINARY, scene.trace.to_bytes()),
    )


def result_of(job: ImageJob, model: Model, scene: Scene, artifacts: Mapping[str, Artifact]) -> ImagesResult:
    """Describe the image as if it had been generated, in as many steps as there were evaluations."""
    return ImagesResult(
        kind="image",
        model=job.model,
        height=job.height,
        width=job.width,
        num_inference_steps=evaluations_of(job),
        guidance_scale=NO_GUIDANCE,
        scheduler=model.card.default_scheduler,
        evaluations=len(scene.trace.evaluations),
        timesteps=[*scene.trace.timesteps],
        blocks=block_infos(scene.trace),
        self_attention=bool(scene.trace.self_attention),
        images=[
            GeneratedImage(index=0, seed=job.seed, image=artifacts["image-0.png"], trace_bytes=artifacts[keys.trace(0)].size)
        ],
    )
