"""Where in an image is what? A heatmap and a mask for every target."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import torch

import ovam
from contracts.attribution import AttributeRequest, AttributeResult
from ovam.attention import resize
from worker.attempts import Attempt
from worker.findings import Finding, Heat, Labelling, finding_of, labelling_of
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
    findings, labelling = await asyncio.to_thread(found, attempt, request, scene, questions, heats)
    attempt.check()
    files = [*(file for finding in findings for file in finding.files), *([labelling.file] if labelling else ())]
    artifacts = await resources.store.commit(attempt.job_id, attempt.number, files)
    height, width = scene.image.shape[:2]
    return AttributeResult(
        model=source.model,
        height=height,
        width=width,
        segments=[finding.segment(artifacts) for finding in findings],
        semantic=labelling.semantic(artifacts) if labelling else None,
    )


@torch.inference_mode()
def heats_of(model: Model, scene: Scene, request: AttributeRequest, questions: Sequence[Question]) -> list[Heat]:
    """Where each target is hot; what targets share is computed once."""
    trace = scene.trace.to(device=model.device)
    size = (scene.image.shape[0], scene.image.shape[1])
    methods = [question.method for question in questions]
    rows = ovam.rows_of(model.pipeline, [question.sought for question in questions], methods)
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


def found(
    attempt: Attempt, request: AttributeRequest, scene: Scene, questions: Sequence[Question], heats: Sequence[Heat]
) -> tuple[list[Finding], Labelling | None]:
    """What was found of each target, and of all together.

    One comes after the other: what takes long here holds Python's lock, so that threads would only wait.
    """
    findings = []
    for number, (question, heat) in enumerate(zip(questions, heats, strict=True)):
        attempt.check()
        findings.append(finding_of(number, question, heat, scene.image, request.instances))
    return findings, None if request.semantic is None else labelling_of(questions, heats, request.semantic)
