"""From a request to take a real image to the job: filled in, and checked against model and deployment."""

from contracts.rules.capabilities import Size, check_evaluations, image_job, kept_blocks
from contracts.schema.errors import Code
from contracts.schema.images import GenerateRequest, ImageJob, ImageRequest
from contracts.schema.models import ModelCard
from service.prompts import fitting
from service.validation.lookups import Lookups, check_at_most, check_side


async def filled(request: ImageRequest, lookups: Lookups, *, file: bytes) -> ImageJob:
    """The job, with the size that the image gets; the image itself, `file`, is stored beside it."""
    card = await lookups.catalog.model(request.model)
    tokenizer = await lookups.catalog.tokenizer(card)
    fitting(tokenizer, request.prompt, card.max_tokens, field="prompt")
    check_steps(request, lookups.settings.max_steps)
    check_evaluations(request)
    upload = await lookups.decoders.inspect(file, field="image")
    size = size_of(request, (upload.height, upload.width), card, lookups.settings.max_side)
    job = image_job(request, upload, size, card)
    kept_blocks(job.capture, card, (job.height, job.width))
    return job


def check_steps(request: ImageRequest, limit: int) -> None:
    """Raise too-many-steps for more evaluations than the deployment allows."""
    if request.timesteps is not None:
        check_at_most(len(request.timesteps), limit, Code.TOO_MANY_STEPS, field="timesteps")
    if request.num_inference_steps is not None:
        check_at_most(request.num_inference_steps, limit, Code.TOO_MANY_STEPS, field="num_inference_steps")


def size_of(request: ImageRequest | GenerateRequest, shape: Size, card: ModelCard, limit: int) -> Size:
    """(height, width) as given; what is left open keeps an image's shape as far as the model's multiples let it.

    With neither, the longer side is the model's native one. Raises size-too-large or size-not-divisible.
    """

    def multiple(side: float) -> int:
        return max(1, int(side / card.size_multiple + 0.5)) * card.size_multiple

    height, width = request.height, request.width
    if height is None and width is None:
        native = max(card.default_height, card.default_width)
        height, width = (native, None) if shape[0] >= shape[1] else (None, native)
    for field, side in (("height", height), ("width", width)):
        if side is not None:
            check_side(side, card, limit, field=field)
    height = height or multiple((width or 0) * shape[0] / shape[1])
    width = width or multiple(height * shape[1] / shape[0])
    check_at_most(height, limit, Code.SIZE_TOO_LARGE, field="height")
    check_at_most(width, limit, Code.SIZE_TOO_LARGE, field="width")
    return height, width
