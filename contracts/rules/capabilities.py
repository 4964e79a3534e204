"""What a model's card says of a request for images: what it fills in, and what the model cannot do."""

import secrets
from typing import Any

from contracts.errors import Code, ServiceError
from contracts.fields import Request
from contracts.generation import BlockInfo, CaptureOptions, FilledCapture, FilledRequest, GenerateRequest
from contracts.models import ModelCard
from contracts.selections import chosen_blocks, positions

SEED_BITS = 32
NO_GUIDANCE = 1.0  # up to this scale there is no unconditional half


def filled(request: GenerateRequest, card: ModelCard) -> FilledRequest:
    """The request with the model's defaults, and with a seed."""
    defaults = {
        "seed": secrets.randbits(SEED_BITS),
        "guidance_scale": card.default_guidance_scale,
        "height": card.default_height,
        "width": card.default_width,
        "scheduler": card.default_scheduler,
    }
    capture = filled_capture(request.capture, card)
    return FilledRequest.model_validate(defaults | said(request) | {"model": card.name, "capture": capture})


def filled_capture(options: CaptureOptions, card: ModelCard) -> FilledCapture:
    """What is kept, with the model's default for self-attention."""
    return FilledCapture.model_validate({"self_attention": card.default_self_attention} | said(options))


def said(request: Request) -> dict[str, Any]:
    """The fields that a request does not leave open."""
    return {name: value for name, value in dict(request).items() if value is not None}


def check(request: FilledRequest, card: ModelCard) -> None:
    """Raise size-not-divisible, unknown-scheduler, settings-contradict or selection-invalid for what cannot be done."""
    check_multiple(request.height, card, field="height")
    check_multiple(request.width, card, field="width")
    if request.scheduler not in card.schedulers:
        detail = f"`scheduler` is {request.scheduler!r}; allowed for model {card.name!r}: {', '.join(card.schedulers)}"
        raise ServiceError(Code.UNKNOWN_SCHEDULER, detail, field="scheduler", value=request.scheduler)
    if request.capture.half == "unconditional":
        check_guided(request, card)
    kept_blocks(request.capture, card, (request.height, request.width))


def check_guided(request: FilledRequest, card: ModelCard) -> None:
    """Raise settings-contradict unless an unconditional half is drawn."""
    detail = None
    if card.guidance_embedded:
        detail = f"`capture.half` is 'unconditional'; allowed for model {card.name!r}, which draws no such half: 'conditional'"
    elif request.guidance_scale <= NO_GUIDANCE:
        detail = f"`capture.half` is 'unconditional', which needs a `guidance_scale` above 1; it is {request.guidance_scale}"
    if detail is not None:
        raise ServiceError(Code.SETTINGS_CONTRADICT, detail, field="capture.half", value=request.capture.half)


def check_multiple(side: int, card: ModelCard, *, field: str) -> None:
    """Raise size-not-divisible unless a model can draw an image of that side."""
    if side % card.size_multiple:
        detail = f"`{field}` {side} is not a multiple of {card.size_multiple}, as model {card.name!r} needs"
        raise ServiceError(Code.SIZE_NOT_DIVISIBLE, detail, field=field, value=side)


def kept_blocks(options: CaptureOptions, card: ModelCard, size: tuple[int, int]) -> list[BlockInfo]:
    """The blocks whose queries are kept of an image of (height, width); selection-invalid for a choice of what is not there."""
    found = [block for block in card.blocks if options.mid_block or not block.name.startswith("mid_block")]
    grids = [(block.grid[0] * size[0] // card.default_height, block.grid[1] * size[1] // card.default_width) for block in found]
    sized = [block.model_copy(update={"grid": grid}) for block, grid in zip(found, grids, strict=True)]
    chosen = chosen_blocks(options.blocks, sized, field="capture.blocks")
    for block in chosen:
        positions(options.heads, block.heads, field="capture.heads")
    return chosen
