"""What a model's card says of a request for images: what it fills in, and what the model cannot do."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from contracts.rules.abilities import check_able, check_capture
from contracts.rules.adapters import filled_steering, used
from contracts.rules.selections import selected_blocks, selected_positions
from contracts.schema.attribute import Question
from contracts.schema.conditions import STRENGTH, STRENGTH_IN_MASK, Source, Upload
from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Keep, Schema
from contracts.schema.images import (
    DDIM_STEPS,
    NOISE_TIMESTEPS,
    BlockInfo,
    CaptureOptions,
    FilledCapture,
    GenerateJob,
    GenerateRequest,
    ImageJob,
    ImageOptions,
)
from contracts.schema.models import ModelCard

SEED_BITS = 32
NO_GUIDANCE = 1.0  # up to this scale there is no unconditional branch
Size = tuple[int, int]
"""(height, width)."""
NO_PICTURES: Mapping[str, Source] = MappingProxyType({})


def generate_job(
    request: GenerateRequest, card: ModelCard, pictures: Mapping[str, Source] = NO_PICTURES, size: Size | None = None
) -> GenerateJob:
    """The request with the model's defaults, and with a seed; its targets, which are filled in by themselves, are left out.

    `pictures` says by field where the images of the request are, `size` is what follows from them.
    """
    check_able(request, card)
    height, width = size or (card.default_height, card.default_width)
    defaults = {
        "seed": secrets.randbits(SEED_BITS),
        "guidance_scale": card.default_guidance_scale,
        "height": height,
        "width": width,
        "scheduler": card.default_scheduler,
    }
    if request.image is not None:
        defaults["strength"] = STRENGTH if request.mask is None else STRENGTH_IN_MASK
    steering = filled_steering(request, card, pictures)
    capture = filled_capture(queries_of(request), card)
    said = {name: value for name, value in given(request).items() if name not in Question.model_fields}
    filled = {"model": card.name, "capture": capture, "adapters": used(request, card), **steering}
    if "image" in pictures:
        filled["image"] = pictures["image"]
    return GenerateJob.model_validate(defaults | said | filled)


def queries_of(request: GenerateRequest) -> CaptureOptions:
    """What a request keeps: with a ControlNet, whose residuals no replay holds, queries unless it says otherwise."""
    options = request.capture
    return options if request.control is None or options.keep else options.model_copy(update={"keep": "queries"})


def image_job(options: ImageOptions, upload: Upload, size: Size, card: ModelCard) -> ImageJob:
    """The request with the model's defaults, and the size that the image gets."""
    settings = {name: value for name, value in given(options).items() if name in ImageOptions.model_fields}
    if options.inversion == "ddim":
        settings.setdefault("num_inference_steps", DDIM_STEPS)
    else:
        settings.setdefault("timesteps", [*NOISE_TIMESTEPS])
    height, width = size
    filled = {"model": card.name, "height": height, "width": width, "capture": filled_capture(options.capture, card)}
    return ImageJob.model_validate(settings | filled | {"upload": upload})


def filled_capture(options: CaptureOptions, card: ModelCard) -> FilledCapture:
    """What is kept, with the model's and the deployment's defaults.

    Raises settings-contradict for a precision of queries that are not kept, and what the model cannot keep.
    """
    check_capture(options, card)
    keep = options.keep or card.default_keep
    if keep == "replay" and options.precision is not None:
        detail = (
            f"`capture.precision` is {options.precision!r}, but no queries are kept; "
            '`"capture": {"keep": "queries"}` keeps them, or leave the precision out'
        )
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="capture.precision", value=options.precision)
    if keep == "replay":
        return FilledCapture.model_validate(given(options) | {"keep": keep, "self_attention": True})
    defaults = {"self_attention": card.default_self_attention, "precision": "float16"}
    return FilledCapture.model_validate(defaults | given(options) | {"keep": keep})


def given(request: Schema) -> dict[str, Any]:
    """The fields that a request does not leave open."""
    return {name: value for name, value in dict(request).items() if value is not None}


@dataclass(frozen=True)
class Expected:
    """What will be kept of a generation's images, as a target's settings may select it."""

    height: int
    width: int
    blocks: Sequence[BlockInfo]
    evaluations: int
    self_attention: bool
    keep: Keep

    @classmethod
    def of(cls, job: GenerateJob, card: ModelCard) -> "Expected":
        """Raises selection-invalid for a capture of what is not there."""
        size = (job.height, job.width)
        kept = selected_positions(job.capture.evaluations, generated_evaluations(job, card), field="capture.evaluations")
        return cls(*size, kept_blocks(job.capture, card, size), len(kept), job.capture.self_attention, job.capture.keep)


def generated_evaluations(job: GenerateJob, card: ModelCard) -> int:
    """How often a generation evaluates the UNet."""
    return scheduled_evaluations(job.scheduler, steps_made(job), card)


def scheduled_evaluations(scheduler: str, steps: int, card: ModelCard) -> int:
    """How often a UNet is evaluated in some steps: once in each, unless the card says otherwise of the scheduler."""
    each, further = card.sizes.scheduler_evaluations.get(scheduler, (1, 0)) if card.sizes else (1, 0)
    return max(1, each * steps + further)


def steps_made(job: GenerateJob) -> int:
    """How many of its steps a generation makes: from an image only the last ones, as many as its strength says."""
    steps = job.num_inference_steps
    return steps if job.strength is None else min(int(steps * job.strength), steps)


def check_strength(job: GenerateJob) -> None:
    """Raise settings-contradict for a strength by which not one of the steps would be made."""
    if not steps_made(job):
        detail = (
            f"`strength` is {job.strength}, which is less than one of {job.num_inference_steps} steps; "
            f"allowed: at least {1 / job.num_inference_steps:.3g}, or more steps"
        )
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="strength", value=job.strength)


def check(job: GenerateJob, card: ModelCard) -> None:
    """Raise unknown-scheduler, settings-contradict or selection-invalid for what a model cannot do; sizes are checked before."""
    if job.scheduler not in card.schedulers:
        detail = f"`scheduler` is {job.scheduler!r}; allowed for model {card.name!r}: {', '.join(card.schedulers)}"
        raise ServiceError(Code.UNKNOWN_SCHEDULER, detail, field="scheduler", value=job.scheduler)
    check_strength(job)
    if job.clip_skip is not None and job.clip_skip > card.max_clip_skip:
        detail = f"`clip_skip` is {job.clip_skip}; allowed for model {card.name!r}: up to {card.max_clip_skip}"
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="clip_skip", value=job.clip_skip)
    if job.capture.branch == "unconditional":
        check_guided(job, card)
    Expected.of(job, card)


def check_guided(job: GenerateJob, card: ModelCard) -> None:
    """Raise settings-contradict unless an unconditional branch is computed."""
    detail = None
    if card.guidance_embedded:
        detail = f"`capture.branch` is 'unconditional'; allowed for model {card.name!r}, which has no such branch: 'conditional'"
    elif job.guidance_scale <= NO_GUIDANCE:
        detail = f"`capture.branch` is 'unconditional', which needs a `guidance_scale` above 1; it is {job.guidance_scale}"
    if detail is not None:
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="capture.branch", value=job.capture.branch)


def check_multiple(side: int, card: ModelCard, *, field: str) -> None:
    """Raise size-not-divisible unless the model can make an image of that side."""
    if side % card.size_multiple:
        detail = f"`{field}` {side} is not a multiple of {card.size_multiple}, as model {card.name!r} needs"
        raise ServiceError(Code.SIZE_NOT_DIVISIBLE, detail, field=field, value=side)


def check_evaluations(options: ImageOptions | ImageJob) -> None:
    """Raise selection-invalid for a selection of evaluations that a real image does not take."""
    selected_positions(options.capture.evaluations, evaluations_of(options), field="capture.evaluations")


def evaluations_of(options: ImageOptions | ImageJob) -> int:
    """How many evaluations of the UNet a real image takes, whichever of them are kept."""
    if options.inversion == "ddim":
        return options.num_inference_steps or DDIM_STEPS
    return len(options.timesteps or NOISE_TIMESTEPS)


def kept_blocks(options: CaptureOptions, card: ModelCard, size: Size) -> list[BlockInfo]:
    """The blocks whose queries are kept of an image; selection-invalid for a selection of what is not there."""
    there = [block for block in card.blocks if options.mid_block or not block.name.startswith("mid_block")]
    grids = [(block.grid[0] * size[0] // card.default_height, block.grid[1] * size[1] // card.default_width) for block in there]
    sized = [block.model_copy(update={"grid": grid}) for block, grid in zip(there, grids, strict=True)]
    kept = selected_blocks(options.blocks, sized, field="capture.blocks")
    for block in kept:
        selected_positions(options.heads, block.heads, field="capture.heads")
    return kept
