"""Checks of a request for images."""

import secrets

from contracts.errors import Code
from contracts.generation import GenerateRequest
from service.prompts import fitting
from service.validation.lookups import Lookups, check_at_most, check_side

SEED_BITS = 32


async def checked(request: GenerateRequest, lookups: Lookups) -> GenerateRequest:
    """The request with model, seed, size and guidance filled in: run again, it gives the same images."""
    catalog, settings = lookups.catalog, lookups.settings
    card = await catalog.model(request.model)
    height = request.height or card.default_height
    width = request.width or card.default_width
    check_side(height, card, settings.max_side, field="height")
    check_side(width, card, settings.max_side, field="width")
    check_at_most(request.num_inference_steps, settings.max_steps, Code.TOO_MANY_STEPS, field="num_inference_steps")
    check_at_most(request.num_images, settings.max_images, Code.TOO_MANY_IMAGES, field="num_images")
    tokenizer = await catalog.tokenizer(card)
    fitting(tokenizer, request.prompt, card.max_tokens, field="prompt")
    fitting(tokenizer, request.negative_prompt, card.max_tokens, field="negative_prompt")
    scale = card.default_guidance_scale if request.guidance_scale is None else request.guidance_scale
    seed = secrets.randbits(SEED_BITS) if request.seed is None else request.seed
    filled = {"model": card.name, "height": height, "width": width, "guidance_scale": scale, "seed": seed}
    return request.model_copy(update=filled)
