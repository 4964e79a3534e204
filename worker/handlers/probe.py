"""Rank the words that a place of an image attends to."""

from dataclasses import asdict

import torch

import ovam
from contracts.probing import ProbeRequest, ProbeResult, RankedWord
from contracts.selections import chosen_blocks, native
from worker.attempts import Attempt
from worker.choices import blocks_of, named
from worker.gpu import Priority
from worker.models import Model
from worker.resources import Resources
from worker.traces import Scene, scene_of, source_of


async def probe(attempt: Attempt, request: ProbeRequest, resources: Resources) -> ProbeResult:
    """Rank the words; all that comes of it is in the record."""
    record, source = await source_of(resources.ledger, request.job_id, request.image, field="job_id")
    model = await resources.models.get(source.model)
    scene = await scene_of(record, request.image, model, cache=resources.scenes, store=resources.store)
    words = await attempt.on_device(Priority.ATTRIBUTE, lambda: ranked(model, scene, request))
    return ProbeResult(model=source.model, prompt=request.attribution_prompt, words=words)


@torch.inference_mode()
def ranked(model: Model, scene: Scene, request: ProbeRequest) -> list[RankedWord]:
    """The words, the best first."""
    found = ovam.rank_words(
        scene.trace.to(device=model.device),
        model.pipeline,
        request.attribution_prompt,
        request.words,
        box=request.region,
        padding=request.padding,
        blocks=named(chosen_blocks(request.blocks, blocks_of(scene.trace), field="blocks")),
        evaluations=native(request.evaluations),
        heads=native(request.heads),
    )
    return [RankedWord(**asdict(word)) for word in found]
