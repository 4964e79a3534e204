"""Where in an image is what? A heatmap and a mask for every target."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

import ovam
from contracts.attribution import AttributeRequest, AttributeResult
from contracts.store import File
from ovam.attention import resize
from worker.attempts import Attempt
from worker.findings import SEMANTIC, Finding, Heat, finding_of, labels_of, semantic_map_of
from worker.gpu import Priority
from worker.models import Model
from worker.questions import Question, learned_tokens, questions_of
from worker.resources import Resources
from worker.traces import Scene, scene_of, source_of


async def attribute(attempt: Attempt, request: AttributeRequest, resources: Resources) -> AttributeResult:
    """Find every target in the image and commit what was found."""
    record, source = await source_of(resources.ledger, request.job_id, request.image, field="job_id")
    model = await resources.models.get(source.model)
    scene = await scene_of(record, request.image, model, cache=resources.scenes, store=resources.store)
    learned = await learned_tokens(request, model.card, resources)
    questions = questions_of(request, model, scene.trace, learned)
    heats = await attempt.on_device(Priority.ATTRIBUTE, lambda: heats_of(model, scene, request, questions))
    findings = await asyncio.to_thread(lambda: [*findings_of(attempt, request, scene, questions, heats)])
    files = [file for finding in findings for file in finding.files]
    labels = None if request.semantic is None else await asyncio.to_thread(labels_of, questions, heats, request.semantic)
    if labels is not None:
        files.append(File(SEMANTIC, "image/png", ovam.indexed_png(labels)))
    attempt.check()
    artifacts = await resources.store.commit(attempt.job_id, attempt.number, files)
    height, width = scene.image.shape[:2]
    return AttributeResult(
        model=source.model,
        height=height,
        width=width,
        segments=[finding.segment(artifacts) for finding in findings],
        semantic=None if labels is None else semantic_map_of(labels, questions, artifacts),
    )


@torch.inference_mode()
def heats_of(model: Model, scene: Scene, request: AttributeRequest, questions: Sequence[Question]) -> list[Heat]:
    """Where each target is hot; what targets share is computed once."""
    trace = scene.trace.to(device=model.device)
    size = (scene.image.shape[0], scene.image.shape[1])
    methods = [question.method for question in questions]
    rows = ovam.rows_of(model.pipeline, [question.sought for question in questions], [method.padding for method in methods])
    maps = ovam.target_heatmaps(trace, rows, methods)
    refined = ovam.refined(maps, methods, size, trace.self_attention)
    parts = {by: ovam.split_target_heatmaps(trace, rows, methods, by) for by in request.maps}
    return [
        Heat(
            heatmap=resize(heatmap[None], size)[0].cpu(),
            refined=heat.cpu(),
            parts={by: replace(splits[number], maps=splits[number].maps.cpu()) for by, splits in parts.items()},
        )
        for number, (heatmap, heat) in enumerate(zip(maps, refined, strict=True))
    ]


def findings_of(
    attempt: Attempt, request: AttributeRequest, scene: Scene, questions: Sequence[Question], heats: Sequence[Heat]
) -> Iterator[Finding]:
    """What was found of each target. They come one after the other: what is slow in them holds Python's lock anyway."""
    for number, (question, heat) in enumerate(zip(questions, heats, strict=True)):
        attempt.check()
        yield finding_of(number, question, heat, scene.image, request.instances)
