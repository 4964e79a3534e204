"""Rank the words that a place in an image attends to."""

from dataclasses import asdict

import torch

from contracts.schema.probe import ProbeJob, ProbeResult, RankedWord
from ovam.attention.probe import rank_words
from worker.attempts import Attempt
from worker.device import Priority
from worker.models import Model
from worker.outcomes import Outcome
from worker.resources import Resources
from worker.scenes import Scene
from worker.traces import Traces, Wanted, model_for


async def probe(attempt: Attempt, job: ProbeJob, resources: Resources) -> Outcome:
    """Rank the words; the record holds the whole answer, there are no files."""
    model = await model_for(job.model, job.job_id, resources, field="job_id")
    traces = Traces(attempt, resources, model, Priority.INTERACTIVE)
    scene = await traces.scene(job.job_id, job.image, Wanted([(job.blocks, job.evaluations)]), field="job_id")
    words = await attempt.on_device(Priority.INTERACTIVE, lambda: ranked(model, scene, job))
    return Outcome(ProbeResult(model=job.model, prompt=job.prompt, words=words))


@torch.inference_mode()
def ranked(model: Model, scene: Scene, job: ProbeJob) -> list[RankedWord]:
    """Rank the words, the best first."""
    words = rank_words(
        scene.trace.to(device=model.device),
        model.pipeline,
        job.prompt,
        job.words,
        box=job.box,
        padding=job.padding,
        blocks=job.blocks,
        evaluations=job.evaluations,
        heads=job.heads,
    )
    return [RankedWord(**asdict(word)) for word in words]
