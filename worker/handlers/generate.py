"""Generate images and keep their traces."""

import asyncio
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

import ovam
from contracts import keys
from contracts.errors import Code, ServiceError
from contracts.generation import MAX_SEED, GeneratedImage, GenerateRequest, GenerateResult
from contracts.jobs import Progress
from contracts.store import File
from worker.attempts import Attempt
from worker.gpu import Priority
from worker.models import Model
from worker.rendering import png
from worker.resources import Resources
from worker.traces import Scene

BINARY = "application/octet-stream"


@dataclass(frozen=True)
class Plan:
    """A request with every default filled in."""

    model: str
    prompt: str
    negative_prompt: str
    seeds: tuple[int, ...]
    steps: int
    guidance_scale: float
    height: int
    width: int
    self_attention: bool


async def generate(attempt: Attempt, request: GenerateRequest, resources: Resources) -> GenerateResult:
    """Draw the images, commit them with their traces, and keep the traces at hand."""
    model = await resources.models.get(request.model or resources.settings.default)
    plan = planned(request, model)
    batch = resources.settings.batch_images
    scenes = await attempt.on_device(Priority.GENERATE, lambda: list(draw(attempt, model, plan, batch)))
    files = await asyncio.gather(*(asyncio.to_thread(files_of, scene, plan, index) for index, scene in enumerate(scenes)))
    attempt.check()
    artifacts = await resources.store.commit(attempt.job_id, attempt.number, [file for pair in files for file in pair])
    for index, scene in enumerate(scenes):
        resources.scenes.keep((attempt.job_id, attempt.number, index), model.card.name, scene)
    return GenerateResult(
        model=plan.model,
        height=plan.height,
        width=plan.width,
        num_inference_steps=plan.steps,
        guidance_scale=plan.guidance_scale,
        evaluations=len(scenes[0].trace.evaluations),
        self_attention=plan.self_attention,
        images=[
            GeneratedImage(
                index=index,
                seed=seed,
                image=artifacts[f"image-{index}.png"],
                trace_bytes=artifacts[keys.trace(index)].size,
            )
            for index, seed in enumerate(plan.seeds)
        ],
    )


def planned(request: GenerateRequest, model: Model) -> Plan:
    """Fill in the model's defaults. ServiceError: prompt-too-long, size-not-divisible."""
    card = model.card
    first = secrets.randbelow(MAX_SEED) if request.seed is None else request.seed
    plan = Plan(
        model=card.name,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seeds=tuple(first + index for index in range(request.num_images)),
        steps=request.num_inference_steps,
        guidance_scale=card.default_guidance_scale if request.guidance_scale is None else request.guidance_scale,
        height=request.height or card.default_height,
        width=request.width or card.default_width,
        self_attention=bool(request.capture.self_attention),
    )
    for field, size in (("height", plan.height), ("width", plan.width)):
        if size % card.size_multiple:
            detail = f"{field} is {size}; allowed for model {card.name!r}: multiples of {card.size_multiple}"
            raise ServiceError(Code.SIZE_NOT_DIVISIBLE, detail, field=field, value=size)
    return plan


def draw(attempt: Attempt, model: Model, plan: Plan, batch: int) -> Iterator[Scene]:
    """Run the pipeline, a batch of images at a time; image k depends on its own seed alone."""
    for field, text in (("prompt", plan.prompt), ("negative_prompt", plan.negative_prompt)):
        require_short(model, field, text)
    groups = [plan.seeds[start : start + batch] for start in range(0, len(plan.seeds), batch)]
    for number, seeds in enumerate(groups):
        attempt.breathe()
        with ovam.capture(model.pipeline, self_attention=plan.self_attention) as traces:
            images = run_pipeline(attempt, model, plan, seeds, (number, len(groups)))
        for image, trace in zip(images, traces, strict=True):
            yield Scene(trace.to(device="cpu", dtype=torch.float16), np.asarray(image))


def run_pipeline(attempt: Attempt, model: Model, plan: Plan, seeds: tuple[int, ...], group: tuple[int, int]) -> list[Image]:
    """Draw one batch, telling of every step. The noise is drawn on the CPU, so that a seed means the same everywhere."""
    number, groups = group

    def step_ended(pipeline: Any, step: int, _timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
        steps = pipeline.num_timesteps
        attempt.report(Progress(done=number * steps + step + 1, total=groups * steps, unit="step"))
        attempt.breathe()
        return tensors

    return model.pipeline(
        prompt=[plan.prompt] * len(seeds),
        negative_prompt=[plan.negative_prompt] * len(seeds),
        height=plan.height,
        width=plan.width,
        num_inference_steps=plan.steps,
        guidance_scale=plan.guidance_scale,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        callback_on_step_end=step_ended,
        callback_on_step_end_tensor_inputs=[],
    ).images


def require_short(model: Model, field: str, text: str) -> None:
    """Refuse a text that the pipeline would silently cut. ServiceError: prompt-too-long."""
    tokens = len(model.pipeline.tokenizer(text, verbose=False)["input_ids"])
    if tokens > model.card.max_tokens:
        detail = f"{field} has {tokens} tokens, start and end included; allowed: {model.card.max_tokens}"
        raise ServiceError(Code.PROMPT_TOO_LONG, detail, field=field, value=text)


def files_of(scene: Scene, plan: Plan, index: int) -> tuple[File, File]:
    """An image with its settings as text chunks, and its trace."""
    settings = {
        "model": plan.model,
        "seed": plan.seeds[index],
        "num_inference_steps": plan.steps,
        "guidance_scale": plan.guidance_scale,
    }
    notes = {"prompt": plan.prompt, "negative_prompt": plan.negative_prompt, "settings": json.dumps(settings)}
    return (
        File(f"image-{index}.png", "image/png", png(scene.image, notes)),
        File(keys.trace(index), BINARY, scene.trace.to_bytes()),
    )
