"""Where in an image is what? A heatmap and a mask for every target."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import torch

from contracts.schema.attribute import Appraisal, AttributeJob, AttributeResult
from contracts.schema.errors import Code, ServiceError
from ovam.attention.competition import rows_in_softmax
from ovam.attention.scores import resize
from ovam.attention.targets import Rows, Words, split_target_heatmaps, target_heatmaps
from ovam.core.looks import difference_hash, is_single_coloured
from ovam.core.methods import Method
from ovam.segmentation import Fit, competitors_leakages, cuts, one_by_one, refined
from worker.attempts import Attempt
from worker.device import Priority
from worker.models import Model
from worker.outcomes import Outcome
from worker.resources import Resources
from worker.scenes import Scene
from worker.segments import Heat, SegmentDraft, SemanticDraft, draft_of, semantic_draft_of
from worker.targets import learned_tokens, library_target, sought
from worker.traces import Traces, Wanted


async def attribute(attempt: Attempt, job: AttributeJob, resources: Resources) -> Outcome:
    """Look for every target in the image, and commit the files of all of them."""
    model = await resources.models.get(job.model)
    traces = Traces(attempt, resources, model, Priority.INTERACTIVE)
    scene = await traces.scene(job.job_id, job.image, wanted_by([each.settings for each in job.targets]), field="job_id")
    learned = await learned_tokens(job, resources)
    wanted = [library_target(target, learned, field=field) for field, target in sought(job).items()]
    heats = await attempt.on_device(Priority.INTERACTIVE, lambda: heats_of(model, scene, job, wanted))
    drafts, semantic = await asyncio.to_thread(drafts_of, attempt, job, scene, heats, resources.crf.fit)
    appraisal = await appraised(attempt, job, scene, resources)
    attempt.check()
    files = [*(file for draft in drafts for file in draft.files), *([semantic.file] if semantic else ())]
    artifacts = await resources.store.commit(attempt.job_id, attempt.number, files)
    height, width = scene.image.shape[:2]
    result = AttributeResult(
        model=job.model,
        height=height,
        width=width,
        segments=[draft.segment(artifacts) for draft in drafts],
        semantic=semantic.semantic(artifacts) if semantic else None,
        appraisal=appraisal,
    )
    return Outcome(result)


async def appraised(attempt: Attempt, job: AttributeJob, scene: Scene, resources: Resources) -> Appraisal | None:
    """Say what the image as a whole is like. ServiceError (no-clip) for texts to compare it to without a CLIP model."""
    if job.appraisal is None:
        return None
    clip, texts, image = resources.clip, job.appraisal.clip, scene.image
    found = Appraisal(single_colour=is_single_coloured(image), looks=difference_hash(image))
    if not texts:
        return found
    if clip is None:
        detail = "`appraisal.clip` needs a CLIP model, and this worker has none (OVAM_CLIP)"
        raise ServiceError(Code.NO_CLIP, detail, field="appraisal.clip", value=texts[0])
    cosines, scale = await attempt.on_device(Priority.INTERACTIVE, lambda: clip.cosines(image, texts))
    return found.model_copy(update={"clip": cosines, "clip_scale": scale})


def wanted_by(methods: Sequence[Method]) -> Wanted:
    """Return what some methods take of a trace."""
    selections = [(method.blocks, method.evaluations) for method in methods]
    return Wanted(selections, any(method.needs_self_attention for method in methods))


@torch.inference_mode()
def heats_of(model: Model, scene: Scene, job: AttributeJob, wanted: Sequence[Words | Rows]) -> list[Heat]:
    """Compute where each target is hot; `wanted` holds the distractors after the targets. What they share is computed once."""
    trace = scene.trace.to(device=model.device)
    size = (scene.image.shape[0], scene.image.shape[1])
    methods = [each.settings for each in job.targets]
    targets, distractors = wanted[: len(methods)], wanted[len(methods) :]
    rows = rows_in_softmax(model.pipeline, targets, methods, job.softmax, distractors, trace.clip_skip)
    maps = target_heatmaps(trace, rows, methods)
    heats = refined(maps, methods, size, trace.self_attention)
    leaking = competitors_leakages(heats, methods, rows) if job.softmax == "together" else [None] * len(heats)
    parts = {by: split_target_heatmaps(trace, rows, methods, by) for by in job.maps}
    return [
        Heat(
            heatmap=resize(heatmap[None], size)[0].float().cpu().numpy(),
            refined=heat,
            parts={by: replace(splits[number], maps=splits[number].maps.cpu()) for by, splits in parts.items()},
            leakage=leaking[number],
        )
        for number, (heatmap, heat) in enumerate(zip(maps, heats, strict=True))
    ]


def drafts_of(
    attempt: Attempt, job: AttributeJob, scene: Scene, heats: Sequence[Heat], fit: Fit = one_by_one
) -> tuple[list[SegmentDraft], SemanticDraft | None]:
    """Cut every target's mask, and lay all targets into one map of labels if requested."""
    attempt.check()
    drafts = []
    masks = cuts([target.settings for target in job.targets], [heat.refined for heat in heats], scene.image, fit)
    for number, (target, heat, mask) in enumerate(zip(job.targets, heats, masks, strict=True)):
        attempt.check()
        drafts.append(draft_of(number, target, heat, mask, scene.image, job.instances))
    return drafts, None if job.semantic is None else semantic_draft_of(job.targets, heats, job.semantic)
