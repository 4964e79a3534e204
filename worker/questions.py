"""From a question about an image to the drafts of its segments: the same for an attribute job, and for a generation's targets."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from contracts.schema.attribute import FilledQuestion
from ovam.attention.competition import rows_in_softmax
from ovam.attention.scores import resize
from ovam.attention.targets import Rows, Words, split_target_heatmaps
from ovam.core.confidence import Confidence
from ovam.core.methods import Method
from ovam.cutting import Fit, competitors_leakages, cuts, one_by_one
from ovam.segmentation import heat_of
from ovam.tracing.trace import Trace
from worker.attempts import Attempt
from worker.models import Model
from worker.scenes import Scene
from worker.segments import Heat, SegmentDraft, SemanticDraft, draft_of, semantic_draft_of
from worker.together import Question
from worker.traces import Wanted

Pixels = UInt8[np.ndarray, "height width 3"]


def wanted_by(methods: Sequence[Method]) -> Wanted:
    """Return what some methods take of a trace."""
    selections = [(method.blocks, method.evaluations) for method in methods]
    pixels = any(method.needs_self_attention for method in methods)
    features = any(method.network is not None for method in methods)
    automatic = any(method.aggregation == "automatic" for method in methods)
    return Wanted(selections, self_attention=pixels, features=features, contributions=automatic)


def heats_of(model: Model, scene: Scene, job: FilledQuestion, wanted: Sequence[Words | Rows]) -> list[Heat]:
    """Compute where each target is hot; `wanted` holds the distractors after the targets. What they share is computed once."""
    return heats_together([Question(model, scene, job, wanted)])[0]


@torch.inference_mode()
def heats_together(questions: Sequence[Question]) -> list[list[Heat]]:
    """Do so for several questions that suit each other: the queries are read once for all."""
    model, scene, confidence = questions[0].model, questions[0].scene, questions[0].job.confidence
    trace, size = scene.trace.to(device=model.device), (scene.image.shape[0], scene.image.shape[1])
    rows = [rows_for(question, trace) for question in questions]
    maps, heats, sure = heat_of(
        trace,
        model.pipeline,
        [target for each in questions for target in each.wanted[: len(each.job.targets)]],
        [*chain(*rows)],
        [method for each in questions for method in methods_of(each)],
        size,
        [one for each in questions for one in each.job.calibrations or [None] * len(each.job.targets)] if confidence else None,
    )
    found, done = [], 0
    for question, own in zip(questions, rows, strict=True):
        some = slice(done, done + len(own))
        found.append(heats_for(question, trace, own, maps[some], heats[some], sure[some]))
        done = some.stop
    return found


def methods_of(question: Question) -> list[Method]:
    """Return the method of each target."""
    return [target.settings for target in question.job.targets]


def rows_for(question: Question, trace: Trace) -> list[Rows]:
    """Return the rows of each target, in the embedding that its softmax is over."""
    methods, softmax = methods_of(question), question.job.softmax
    targets, distractors = question.wanted[: len(methods)], question.wanted[len(methods) :]
    return rows_in_softmax(question.model.pipeline, targets, methods, softmax, distractors, trace.clip_skip, trace)


def heats_for(
    question: Question,
    trace: Trace,
    rows: Sequence[Rows],
    maps: Sequence[Tensor],
    heats: Sequence[Float[np.ndarray, "height width"]],
    sure: Sequence[Confidence | None],
) -> list[Heat]:
    """Join what was computed for a question's targets with what it asked for besides."""
    job, methods = question.job, methods_of(question)
    leaking = competitors_leakages(heats, methods, rows) if job.softmax == "together" else [None] * len(heats)
    parts = {by: split_target_heatmaps(trace, rows, methods, by) for by in job.maps}
    return [
        Heat(
            heatmap=resize(heatmap[None], (heat.shape[0], heat.shape[1]))[0].float().cpu().numpy(),
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
