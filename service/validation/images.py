"""Checks of a request to take a real image."""

import asyncio

from contracts.capabilities import filled_capture, kept_blocks
from contracts.errors import Code
from contracts.generation import ImageRequest, ImageUpload, Upload
from contracts.models import ModelCard
from contracts.selections import positions
from service.images import inspected
from service.prompts import fitting
from service.validation.lookups import Lookups, check_at_most, check_side


async def checked(request: ImageUpload, lookups: Lookups, *, file: bytes) -> ImageRequest:
    """The request without its file, with the model's defaults and the size that the image gets."""
    card = await lookups.catalog.model(request.model)
    tokenizer = await lookups.catalog.tokenizer(card)
    fitting(tokenizer, request.prompt, card.max_tokens, field="prompt")
    check_evaluations(request, lookups.settings.max_steps)
    async with lookups.unpacking:
        upload = await asyncio.to_thread(inspected, file, field="image")
    height, width = size_of(request, upload, card, lookups.settings.max_side)
    capture = filled_capture(request.capture, card)
    kept_blocks(capture, card, (height, width))
    options = dict(request)
    del options["image"]
    found = {"model": card.name, "height": height, "width": width, "capture": capture, "upload": upload}
    return ImageRequest.model_validate(options | found)


def check_evaluations(request: ImageUpload, limit: int) -> None:
    """Raise too-many-steps for more evaluations than allowed, selection-invalid for a choice of what is not there."""
    field = "timesteps" if request.timesteps else "num_inference_steps"
    count = len(request.timesteps or ()) or request.num_inference_steps
    if count is not None:
        check_at_most(count, limit, Code.TOO_MANY_STEPS, field=field)
        positions(request.capture.evaluations, count, field="capture.evaluations")


def size_of(request: ImageUpload, upload: Upload, card: ModelCard, limit: int) -> tuple[int, int]:
    """(height, width) as asked for; what is left open keeps the image's shape as far as the model's multiples let it.

    With neither, the longer side is the model's native one. Raises size-too-large or size-not-divisible.
    """

    def multiple(side: float) -> int:
        return max(1, int(side / card.size_multiple + 0.5)) * card.size_multiple

    height, width = request.height, request.width
    if height is None and width is None:
        native = max(card.default_height, card.default_width)
        height, width = (native, None) if upload.height >= upload.width else (None, native)
    for field, side in (("height", height), ("width", width)):
        if side is not None:
            check_side(side, card, limit, field=field)
    height = height or multiple((width or 0) * upload.height / upload.width)
    width = width or multiple(height * upload.width / upload.height)
    check_at_most(height, limit, Code.SIZE_TOO_LARGE, field="height")
    check_at_most(width, limit, Code.SIZE_TOO_LARGE, field="width")
    return height, width
