"""What people correct is learned: an annotation is an example of its labels' tokens, whose next version predictions then use."""

import asyncio
from collections.abc import Iterable
from functools import reduce
from typing import Any

import numpy as np

from contracts.schema.errors import ServiceError
from contracts.schema.jobs import JobRecord, State
from contracts.schema.masks import RunLengths
from contracts.schema.optimize import MaskExample, OptimizeRequest, TokenInitial, WordInitial
from contracts.state.corrections import Corrections
from ovam.core.coco import encode_run_lengths
from service.aside import Aside, LateError
from service.decoding import SMALL_FILE, SMALL_WORK, WITHIN
from service.integrations.asking import Asking, Mask
from service.integrations.label_studio.brush import unreadable
from service.integrations.label_studio.config import LabelConfig, parsed
from service.integrations.label_studio.meaning import Meaning, meaning_of
from service.integrations.label_studio.regions import label_of, mask_of
from service.integrations.label_studio.shapes import Annotation, Event, Params, Region
from service.integrations.label_studio.tasks import picture_of
from service.resources import Resources
from service.routes.submission import filed
from service.validation import optimize

DRAWN, DELETED = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED"), ("ANNOTATION_DELETED", "ANNOTATIONS_DELETED")
TRAINING = "START_TRAINING"
EVENTS = (*DRAWN, *DELETED, TRAINING)
LONGEST_WAIT = 600.0  # seconds for the image: nobody waits for this
MOST_EXAMPLES = 16  # of those that are kept, the newest: to learn from more takes longer and gains little
Outcome = dict[str, Any]


async def learned(event: Event, resources: Resources) -> dict[str, Outcome]:
    """What became of each label that an event is about: its token and the job that learns it, or why it learns nothing.

    Raises what is wrong with the config or the image.
    """
    config = parsed(event.project.label_config, field="project.label_config")
    registry = resources.catalog.registry
    meanings = [await meaning_of(label, event.project.id, None, registry) for label in config.labels.values()]
    learning = [each for each in meanings if each.learns]
    if event.action == TRAINING:
        return {each.label.name: await relearned(each, resources, afresh=True) for each in learning}
    corrections = Corrections(resources.redis, resources.queue.client.tenant)
    if event.action in DELETED:
        gone = [each.id for each in (*event.annotations, *([event.annotation] if event.annotation else ()))]
        changed = [each for each in learning if gone and await corrections.remove(str(each.learns), *gone)]
    elif event.annotation is None or event.annotation.was_cancelled:
        return {}
    else:
        changed = await corrected(event, event.annotation, config, learning, corrections, resources)
    return {each.label.name: await relearned(each, resources) for each in changed}


async def corrected(
    event: Event,
    annotation: Annotation,
    config: LabelConfig,
    learning: Iterable[Meaning],
    corrections: Corrections,
    resources: Resources,
) -> list[Meaning]:
    """Keep an annotation as an example of every label that it shows, and of no other; returns whose examples are new."""
    masks = await drawn_masks(annotation.result, resources.lookups.decoders.aside)
    asking = Asking(resources, LONGEST_WAIT)
    picture = await picture_of(event.task, config.key, event.project.id, Params(), asking, field=f"task.data.{config.key}")
    changed = []
    for meaning in learning:
        name, mask = str(meaning.learns), masks.get(meaning.label.name)
        if mask is None or not mask.any():
            await corrections.remove(name, annotation.id)
            continue
        run_lengths = RunLengths.model_validate(encode_run_lengths(mask))
        await corrections.put(name, annotation.id, MaskExample(job_id=picture.job_id, image=picture.image, mask=run_lengths))
        changed.append(meaning)
    return changed


async def drawn_masks(regions: list[Region], aside: Aside) -> dict[str, Mask]:
    """The masks of labels, in a thread; large ones in a process, and not for ever."""
    pixels = sum(each.original_height * each.original_width for each in regions)
    numbers = sum(len(part) for each in regions for part in each.value.values() if isinstance(part, list))
    if pixels <= SMALL_WORK and numbers <= SMALL_FILE:
        return await asyncio.to_thread(masks_of, regions)
    try:
        return await aside.call(WITHIN, masks_of, regions)
    except LateError as error:
        raise unreadable(f"takes more than {WITHIN:.0f} seconds to read") from error


def masks_of(regions: Iterable[Region]) -> dict[str, Mask]:
    """The masks of labels: all regions of a label together."""
    found: dict[str, list[Mask]] = {}
    for region in regions:
        label, mask = label_of(region), mask_of(region)
        if label is not None and mask is not None:
            found.setdefault(label, []).append(mask)
    if len({mask.shape for each in found.values() for mask in each}) > 1:
        raise unreadable("is of another size than that of another region")
    return {label: reduce(np.logical_or, each) for label, each in found.items()}


async def relearned(meaning: Meaning, resources: Resources, *, afresh: bool = False) -> Outcome:
    """File the job that learns a label's token, from the newest version there is or, `afresh`, from its word.

    A job that learns the same token and still waits gives way: this one has its examples, too.
    """
    name = str(meaning.learns)
    corrections = Corrections(resources.redis, resources.queue.client.tenant)
    model, examples = await kept(await corrections.all(name), resources)
    if not examples:
        return {"token": name, "error": "no annotated image is kept of it"}
    label, before = meaning.label, meaning.token
    word = label.name if label.wanted == name else label.wanted  # the name of a token is no word
    if afresh or before is None or before.model != model:
        initial = WordInitial(word=word)
    else:
        initial = TokenInitial(token=before.reference)
    request = OptimizeRequest(name=name, classes=[label.name], examples=[*examples], initial=[initial])
    try:
        record, _ = await filed(request, optimize.filled, resources, None, {})
    except ServiceError as error:
        return {"token": name, "error": f"{error.code}: {error.detail}"}
    await superseded(await corrections.learner(name, record.id), resources)
    return {"token": name, "job": record.id, "examples": len(examples)}


async def kept(examples: dict[str, MaskExample], resources: Resources) -> tuple[str, list[MaskExample]]:
    """The newest examples whose images are still there, all of one model: its name, and they."""
    found: list[tuple[str, MaskExample]] = []
    for example in reversed(examples.values()):
        record = await resources.ledger.find(example.job_id)
        if record is not None and record.state is State.SUCCEEDED and record.result is not None:
            found.append((model_of(record), example))
    newest = found[0][0] if found else ""
    return newest, [example for model, example in found if model == newest][:MOST_EXAMPLES]


def model_of(record: JobRecord) -> str:
    """The model that drew, or looked at, the images of a job."""
    return getattr(record.result, "model", "")


async def superseded(job_id: str | None, resources: Resources) -> None:
    """Cancel a job that waits."""
    record = await resources.ledger.find(job_id) if job_id else None
    if record is not None and record.state is State.QUEUED and not record.claimed:
        await resources.queue.cancel(record.id)
