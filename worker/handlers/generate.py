"""Generate images, keep their traces, and answer where their targets are."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from contracts.schema.attribute import FilledQuestion
from contracts.schema.conditions import adapters_of
from contracts.schema.fields import Artifact
from contracts.schema.images import GeneratedImage, GenerateJob, ImagesResult, Watch
from contracts.schema.previews import Rejected
from contracts.state.store import File
from worker.attempts import Attempt
from worker.drawing import Drawing, Drawn, images_of
from worker.keeping import stored_as
from worker.models import Model
from worker.outcomes import Outcome
from worker.questions import drafts_of
from worker.rendering import png
from worker.resources import Resources
from worker.starting import start_of
from worker.traces import block_infos, timesteps_of
from worker.watching import Watcher


async def generate(attempt: Attempt, job: GenerateJob, resources: Resources) -> Outcome:
    """Generate the images, commit them with their traces and segments, and keep the traces in memory."""
    model = await resources.models.get(job.model, adapters_of(job))
    watcher = await Watcher.of(attempt, job, model, resources)
    start = await start_of(attempt.job_id, job, resources)
    draw = partial(images_of, model=model, room=resources.scenes.largest)
    drawn: list[Drawn] = await resources.batches.draw(Drawing(attempt, job, watcher=watcher, start=start), draw)
    artifacts: dict[str, Artifact] = {}
    images = []
    for index, each in enumerate(drawn):  # one at a time: a file is as large as its trace
        attempt.check()
        artifacts |= await written(attempt, await asyncio.to_thread(files_of, each, job, index), resources)
        image = image_of(each, index, artifacts)
        images.append(image if watcher is None else await answered(attempt, watcher, image, each, artifacts, resources))
    attempt.check()
    await resources.store.seal(attempt.job_id, attempt.number, [*artifacts.values()])
    for index, each in enumerate(drawn):
        if scene := each.taken.scene(job.capture.precision):
            await resources.scenes.keep((attempt.job_id, attempt.number, index), model.card.name, scene)
    return Outcome(result_of(job, model, drawn[0], images, watcher.rejected if watcher else []))


async def written(attempt: Attempt, files: Sequence[File], resources: Resources) -> dict[str, Artifact]:
    """Write files; returns their artifacts by name."""
    return {file.name: await resources.store.write(attempt.job_id, attempt.number, file) for file in files}


async def answered(
    attempt: Attempt,
    watcher: Watcher,
    image: GeneratedImage,
    drawn: Drawn,
    artifacts: dict[str, Artifact],
    resources: Resources,
) -> GeneratedImage:
    """Cut the masks of an image's targets, show them, and write their files; returns the image with its segments."""
    fit, pixels = resources.crf.fit, drawn.taken.image
    drafts, semantic = await asyncio.to_thread(drafts_of, attempt, watcher.job, pixels, drawn.heats, fit)
    attempt.report(await asyncio.to_thread(watcher.last_preview, drawn.planned, pixels, [each.region for each in drafts]))
    before = f"image-{image.index}-"  # an attribute job is about one image, this one may be about several
    files = [*(file for draft in drafts for file in draft.files), *([semantic.file] if semantic else ())]
    artifacts |= (found := await written(attempt, [replace(file, name=f"{before}{file.name}") for file in files], resources))
    by_name = {name.removeprefix(before): artifact for name, artifact in found.items()}
    segments = [draft.segment(by_name) for draft in drafts]
    return image.model_copy(update={"segments": segments, "semantic": semantic.semantic(by_name) if semantic else None})


def files_of(drawn: Drawn, job: GenerateJob, index: int) -> tuple[File, File]:
    """Encode an image, with the request that generates it again as text chunks, and what is stored of its attention."""
    texts = {"prompt": job.prompt, "negative_prompt": job.negative_prompt}
    left_out = {*texts, "kind", "num_images", *FilledQuestion.model_fields, *Watch.model_fields}
    settings = job.model_dump(mode="json", exclude=left_out) | {"seed": drawn.planned[1]}
    return (
        File(f"image-{index}.png", "image/png", png(drawn.taken.image, texts | {"settings": json.dumps(settings)})),
        drawn.taken.file(index, job.capture.precision),
    )


def image_of(drawn: Drawn, index: int, artifacts: Mapping[str, Artifact]) -> GeneratedImage:
    """Describe an image."""
    size = artifacts[stored_as(drawn.taken.kept, index)].size
    return GeneratedImage(index=index, seed=drawn.planned[1], image=artifacts[f"image-{index}.png"], trace_bytes=size)


def result_of(
    job: GenerateJob, model: Model, drawn: Drawn, images: Sequence[GeneratedImage], rejected: Sequence[Rejected]
) -> ImagesResult:
    """Describe the images and what is kept of them, which is alike for all of a job's images."""
    kept = drawn.taken.kept
    return ImagesResult(
        kind="generate",
        model=job.model,
        weights=model.weights,
        height=job.height,
        width=job.width,
        num_inference_steps=job.num_inference_steps,
        guidance_scale=job.guidance_scale,
        scheduler=job.scheduler,
        evaluations=len(kept.evaluations),
        timesteps=timesteps_of(kept),
        blocks=block_infos(kept),
        keep=drawn.taken.keep,
        self_attention=job.capture.self_attention if drawn.taken.replay is None else True,
        images=[*images],
        adapters=adapters_of(job),
        rejected=[*rejected],
    )
