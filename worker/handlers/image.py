"""Keep the pixel queries of a real image."""

import asyncio
import json

import numpy as np
import torch
from jaxtyping import UInt8

import ovam
from contracts import keys
from contracts.errors import Code, ServiceError
from contracts.fields import Artifact
from contracts.generation import GeneratedImage, GenerateResult, ImageRequest
from contracts.jobs import Progress
from contracts.selections import positions
from contracts.store import File
from ovam.images import STEPS, TIMESTEPS
from worker.attempts import Attempt
from worker.choices import blocks_of, kept
from worker.gpu import Priority
from worker.models import Model, lent
from worker.pictures import read_picture
from worker.rendering import png
from worker.resources import Resources
from worker.traces import Scene

BINARY = "application/octet-stream"
NO_GUIDANCE = 1.0


async def take_image(attempt: Attempt, request: ImageRequest, resources: Resources) -> GenerateResult:
    """Let the model look at the image, and commit what it saw with its trace."""
    model = await resources.models.get(request.model)
    data = await resources.store.get(keys.upload(attempt.job_id))
    if data is None:
        raise ServiceError(Code.IMAGE_UNREADABLE, "the image that came with the request is gone from the store", field="image")
    pixels = await asyncio.to_thread(read_picture, data, (request.height, request.width))
    scene = await attempt.on_device(Priority.GENERATE, lambda: looked_at(attempt, model, request, pixels))
    files = await asyncio.to_thread(files_of, scene, request)
    attempt.check()
    artifacts = await resources.store.commit(attempt.job_id, attempt.number, files)
    resources.scenes.keep((attempt.job_id, attempt.number, 0), model.card.name, scene)
    return result_of(request, scene.trace, artifacts)


def looked_at(attempt: Attempt, model: Model, request: ImageRequest, pixels: UInt8[np.ndarray, "height width 3"]) -> Scene:
    """Keep the image's trace, telling of every evaluation."""

    def evaluated(done: int, total: int) -> None:
        attempt.report(Progress(done=done, total=total, unit="evaluation"))
        attempt.breathe()

    attempt.breathe()
    with lent(model) as pipeline:
        trace = ovam.trace_image(
            pipeline,
            pixels,
            prompt=request.prompt,
            timesteps=request.timesteps,
            inversion=request.inversion,
            num_inference_steps=request.num_inference_steps or STEPS,
            seed=request.seed,
            evaluations=positions(request.capture.evaluations, steps_of(request), field="capture.evaluations"),
            on_evaluation=evaluated,
            **kept(request.capture, model.card, (request.height, request.width)),
        )
    return Scene(trace.to(device="cpu", dtype=torch.float16), pixels)


def steps_of(request: ImageRequest) -> int:
    """How many evaluations are made, whichever of them are kept."""
    if request.inversion == "ddim":
        return request.num_inference_steps or STEPS
    return len(request.timesteps or TIMESTEPS)


def files_of(scene: Scene, request: ImageRequest) -> tuple[File, File]:
    """The image as the UNet saw it, with the request as text chunks, and its trace."""
    settings = request.model_dump(mode="json", exclude={"prompt"})
    notes = {"prompt": request.prompt, "settings": json.dumps(settings)}
    return (
        File("image-0.png", "image/png", png(scene.image, notes)),
        File(keys.trace(0), BINARY, scene.trace.to_bytes()),
    )


def result_of(request: ImageRequest, trace: ovam.Trace, artifacts: dict[str, Artifact]) -> GenerateResult:
    """The image as if it had been generated, in as many steps as there were evaluations."""
    return GenerateResult(
        model=request.model,
        height=request.height,
        width=request.width,
        num_inference_steps=steps_of(request),
        guidance_scale=NO_GUIDANCE,
        evaluations=len(trace.evaluations),
        timesteps=[*trace.timesteps],
        blocks=blocks_of(trace),
        self_attention=bool(trace.self_attention),
        images=[
            GeneratedImage(index=0, seed=request.seed, image=artifacts["image-0.png"], trace_bytes=artifacts[keys.trace(0)].size)
        ],
    )
