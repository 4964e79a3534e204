"""Where in an image is what? A heatmap and a mask for every target."""

import asyncio

from contracts.schema.attribute import Appraisal, AttributeJob, AttributeResult
from contracts.schema.errors import Code, ServiceError
from ovam.core.looks import difference_hash, is_single_coloured
from worker.attempts import Attempt
from worker.comparing import compared
from worker.device import Priority
from worker.outcomes import Outcome
from worker.questions import drafts_of, heats_together, wanted_by
from worker.resources import Resources
from worker.scenes import Scene
from worker.targets import learned_tokens, library_target, sought
from worker.together import Question
from worker.traces import Traces, model_for


async def attribute(attempt: Attempt, job: AttributeJob, resources: Resources) -> Outcome:
    """Look for every target in the image, and commit the files of all of them."""
    model = await model_for(job.model, job.job_id, resources, field="job_id")
    traces = Traces(attempt, resources, model, Priority.INTERACTIVE)
    scene = await traces.scene(job.job_id, job.image, wanted_by([each.settings for each in job.targets]), field="job_id")
    learned = await learned_tokens(job, resources)
    wanted = [library_target(target, learned, field=field) for field, target in sought(job).items()]
    question = Question(model, scene, job, wanted, sociable=attempt.number == 1)
    heats = await resources.questions.ask(attempt, question, heats_together)
    drafts, semantic = await asyncio.to_thread(drafts_of, attempt, job, scene.image, heats, resources.crf.fit)
    appraisal = await appraised(attempt, job, scene, resources)
    beside = await compared(attempt, job, scene, wanted, heats, [draft.mask for draft in drafts], resources)
    attempt.check()
    files = [*(file for draft in drafts for file in draft.files), *([semantic.file] if semantic else ()), *beside.files]
    artifacts = await resources.store.commit(attempt.job_id, attempt.number, files)
    height, width = scene.image.shape[:2]
    result = AttributeResult(
        model=job.model,
        height=height,
        width=width,
        segments=[beside.added(draft.segment(artifacts), number, artifacts) for number, draft in enumerate(drafts)],
        semantic=semantic.semantic(artifacts) if semantic else None,
        appraisal=appraisal,
        causal=beside.causal,
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
