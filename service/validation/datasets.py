"""From a request for a data set to its job and its prompts: everything is checked before anything starts.

What is wrong with prompts is reported with the line, several at once (`service/validation/prompt_lines.py`). Classes, methods and
settings are checked by the very rules of generate and attribute requests, for an image as the data set's will be.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from contracts.rules.adapters import concepts
from contracts.rules.capabilities import kept_blocks, scheduled_evaluations
from contracts.schema.attribute import AppraisalOptions, AttributeRequest, TargetJob
from contracts.schema.datasets import (
    MAX_ENTRIES,
    ClassTarget,
    DatasetEstimate,
    DatasetJob,
    DatasetOptions,
    DatasetPrompt,
    DatasetRequest,
    FilledClass,
)
from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Artifact
from contracts.schema.filters import PLACEHOLDER, ClipContrast, FilledFilters
from contracts.schema.images import GeneratedImage, GenerateJob, ImagesResult
from contracts.schema.models import ModelCard
from contracts.schema.targets import WordsTarget
from contracts.state.presence import heartbeats
from service.admission import admitted
from service.prompts import fitting
from service.validation import attribute, generate
from service.validation.lookups import Lookups
from service.validation.prompt_lines import checked

IMAGE = "0" * 26  # the id of a job that has an image as the data set's will be: no job has it
FILLED = ("model", "guidance_scale", "height", "width", "scheduler")
KEPT_PER_PIXEL = 2  # bytes of an image and its masks, about


@dataclass(frozen=True)
class Dataset:
    """A data set as it is filed."""

    job: DatasetJob
    prompts: list[DatasetPrompt]
    estimate: DatasetEstimate


async def filled(request: DatasetRequest, lookups: Lookups) -> Dataset:
    """The data set, if its model can draw it, its classes can be looked for, and every prompt can be used."""
    card = await lookups.catalog.model(request.generation.model, field="generation.model")
    filters = request.filters.filled()
    check_clip(filters, card)
    with named_in("generation"):
        drawn = await generate.filled(request.generation.request("image", request.seed), lookups)
    lookups = replace(lookups, images={IMAGE: image_of(drawn, card)})
    found = [await filled_class(number, request, lookups) for number in range(len(request.classes))]
    tokenizer = await lookups.catalog.tokenizer(card)
    known = concepts(card, drawn.adapters)
    fit = partial(fitting, tokenizer, limit=card.max_tokens, field="prompt", concepts=known)
    prompts = await asyncio.to_thread(checked, request, fit)
    check_count(len(prompts), request.images_per_prompt)
    job = DatasetJob.model_validate(
        {name: getattr(request, name) for name in DatasetOptions.model_fields}
        | {"generation": request.generation.model_copy(update={name: getattr(drawn, name) for name in FILLED})}
        | {"classes": [each for each, _ in found], "filters": filters, "prompts": len(prompts)}
        | {"method": found[0][1].method, "settings": found[0][1].settings}
    )
    most = max(prompts, key=lambda each: len(each.classes))
    with named_in("attribution"):
        asked = await attribute.filled(question(job, most.classes, IMAGE), lookups)
        costs = [await admitted(each, lookups) for each in (drawn, asked)]
    seconds = [None if cost is None else cost.seconds for cost in costs]
    return Dataset(job, prompts, await estimated(job, seconds, lookups))


def check_clip(filters: FilledFilters, card: ModelCard) -> None:
    """Raise no-clip for a filter by CLIP where the model's workers have none."""
    if filters.clip is not None and card.clip is None:
        detail = (
            f"`filters.clip` needs a CLIP model, and the workers of model {card.name!r} have none (OVAM_CLIP); "
            'allowed: `"clip": null` in `filters`, beside a preset, too'
        )
        raise ServiceError(Code.NO_CLIP, detail, field="filters.clip", value=filters.clip.kind)


def check_count(prompts: int, each: int) -> None:
    """Raise invalid-argument for too many images."""
    if prompts * each > MAX_ENTRIES:
        detail = f"{prompts} prompts with {each} images each are {prompts * each} images; allowed: {MAX_ENTRIES}"
        raise ServiceError(Code.INVALID_ARGUMENT, detail, field="images_per_prompt", value=each)


@contextmanager
def named_in(place: str, inside: Mapping[str, str] | None = None) -> Iterator[None]:
    """Name the fields of errors as the data set's request has them: inside of `place`, or as `inside` renames beginnings."""
    renamed = {"": f"{place}."} if inside is None else inside
    try:
        yield
    except ServiceError as error:
        if (field := error.field) is not None:
            known = next((each for each in renamed if field.startswith(each)), None)
            error.field = place if known is None else renamed[known] + field.removeprefix(known)
            error.detail = error.detail.replace(f"`{field}`", f"`{error.field}`")
        raise


def image_of(job: GenerateJob, card: ModelCard) -> ImagesResult:
    """What the job that draws an image of the data set will answer."""
    file = Artifact(name="image-0.png", media_type="image/png", size=0, sha256="", url="")
    return ImagesResult(
        kind="generate",
        model=job.model,
        height=job.height,
        width=job.width,
        num_inference_steps=job.num_inference_steps,
        guidance_scale=job.guidance_scale,
        scheduler=job.scheduler,
        evaluations=scheduled_evaluations(job.scheduler, job.num_inference_steps, card),
        timesteps=[],
        blocks=kept_blocks(job.capture, card, (job.height, job.width)),
        keep=job.capture.keep,
        adapters=job.adapters,
        self_attention=job.capture.self_attention,
        images=[GeneratedImage(index=0, seed=job.seed, image=file, trace_bytes=0)],
    )


async def filled_class(number: int, request: DatasetRequest, lookups: Lookups) -> tuple[FilledClass, TargetJob]:
    """A class with its label and its target, if that can be looked for: a word that is in its prompt, a token of the model."""
    given = request.classes[number]
    target: ClassTarget = given.target or WordsTarget(word=given.name)
    asked = request.attribution
    target = target.model_copy(update={"label": given.name})
    alone = AttributeRequest(job_id=IMAGE, targets=[target], method=asked.method, settings=asked.settings)
    place = f"classes.{number}.target"
    with named_in(place, {"targets.0.": f"{place}.", "settings.": "attribution.settings.", "method": "attribution.method"}):
        job = await attribute.filled(alone, lookups)
    found = job.targets[0].target.model_copy(update={"label": given.name, "settings": target.settings})
    return FilledClass(name=given.name, target=found, label=request.labels()[number]), job.targets[0]


def question(job: DatasetJob, names: Sequence[str], job_id: str) -> AttributeRequest:
    """Ask where the classes of these names are in the image of a job, and what its filters need to know."""
    asked, filters = job.attribution, job.filters
    appraisal = None
    if filters.clip or filters.single_colour or filters.duplicates == "perceptual":
        appraisal = AppraisalOptions(clip=[text for name in names for text in clip_texts(filters, name)])
    return AttributeRequest(
        job_id=job_id,
        targets=[each.target for each in job.classes if each.name in names],
        softmax=asked.softmax,
        distractors=asked.distractors,
        confidence=True,
        method=asked.method,
        settings=asked.settings,
        appraisal=appraisal,
    )


def clip_texts(filters: FilledFilters, name: str) -> list[str]:
    """The texts that CLIP compares to an image for a class."""
    if filters.clip is None:
        return []
    texts = [filters.clip.prompt, *([filters.clip.against] if isinstance(filters.clip, ClipContrast) else ())]
    return [text.replace(PLACEHOLDER, name) for text in texts]


async def estimated(job: DatasetJob, seconds: Sequence[float | None], lookups: Lookups) -> DatasetEstimate:
    """What the data set will take, if the jobs of an image take so long."""
    workers = max(1, len(await heartbeats(lookups.catalog.redis)))
    known = [each for each in seconds if each is not None]
    kept = job.entries * (job.generation.height or 0) * (job.generation.width or 0) * KEPT_PER_PIXEL
    whole = round(job.entries * sum(known) / workers, 1) if len(known) == len(seconds) else None
    return DatasetEstimate(seconds=whole, kept_bytes=kept)
