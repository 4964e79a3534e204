"""From a question about an image to the drafts of its segments: the same for an attribute job, and for a generation's targets."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8

from contracts.schema.attribute import FilledQuestion
from ovam.attention.competition import rows_in_softmax
from ovam.attention.scores import resize
from ovam.attention.targets import Rows, Words, split_target_heatmaps
from ovam.core.methods import Method
from ovam.cutting import Fit, competitors_leakages, cuts, one_by_one
from ovam.segmentation import heat_of
from worker.attempts import Attempt
from worker.models import Model
from worker.scenes import Scene
from worker.segments import Heat, SegmentDraft, SemanticDraft, draft_of, semantic_draft_of
from worker.traces import Wanted

Pixels = UInt8[np.ndarray, "height width 3"]


def wanted_by(methods: Sequence[Method]) -> Wanted:
    """Return what some methods take of a trace."""
    selections = [(method.blocks, method.evaluations) for method in methods]
    pixels = any(method.needs_self_attention for method in methods)
    return Wanted(selections, self_attention=pixels, features=any(method.network is not None for method in methods))


@torch.inference_mode()
def heats_of(model: Model, scene: Scene, job: FilledQuestion, wanted: Sequence[Words | Rows]) -> list[Heat]:
    """Compute where each target is hot; `wanted` holds the distractors after the targets. What they share is computed once."""
    trace = scene.trace.to(device=model.device)
    size = (scene.image.shape[0], scene.image.shape[1])
    methods = [each.settings for each in job.targets]
    targets, distractors = wanted[: len(methods)], wanted[len(methods) :]
    rows = rows_in_softmax(model.pipeline, targets, methods, job.softmax, distractors, trace.clip_skip, trace)
    calibrations = (job.calibrations or [None] * len(rows)) if job.confidence else None
    maps, heats, sure = heat_of(trace, model.pipeline, targets, rows, methods, size, calibrations)
    leaking = competitors_leakages(heats, methods, rows) if job.softmax == "together" else [None] * len(heats)
    parts = {by: split_target_heatmaps(trace, rows, methods, by) for by in job.maps}
    return [
        Heat(
            heatmap=resize(heatmap[None], size)[0].float().cpu().numpy(),
            refined=heat,
            parts={by: replace(splits[number], maps=splits[number].maps.cpu()) for by, splits in parts.items()},
            leakage=leaking[number],
            confidence=sure[number],
        )
        for number, (heatmap, heat) in enumerate(zip(maps, heats, strict=True))
    ]


def drafts_of(
    attempt: Attempt, job: FilledQuestion, image: Pixels, heats: Sequence[Heat], fit: Fit = one_by_one
) -> tuple[list[SegmentDraft], SemanticDraft | None]:
    """Cut every target's mask, and lay all targets into one map of labels if requested."""
    attempt.check()
    drafts = []
    masks = cuts([target.settings for target in job.targets], [heat.refined for heat in heats], image, fit)
    for number, (target, heat, mask) in enumerate(zip(job.targets, heats, masks, strict=True)):
        attempt.check()
        drafts.append(draft_of(number, target, heat, mask, image, job.instances))
    return drafts, None if job.semantic is None else semantic_draft_of(job.targets, heats, job.semantic)
