"""Checks of a request for images."""

from contracts.capabilities import check, filled
from contracts.errors import Code
from contracts.generation import FilledRequest, GenerateRequest
from service.prompts import fitting
from service.validation.lookups import Lookups, check_at_most, check_side


async def checked(request: GenerateRequest, lookups: Lookups) -> FilledRequest:
    """The request as it is run, if the model can do it and the deployment allows it."""
    catalog, settings = lookups.catalog, lookups.settings
    card = await catalog.model(request.model)
    run = filled(request, card)
    check_side(run.height, card, settings.max_side, field="height")
    check_side(run.width, card, settings.max_side, field="width")
    check_at_most(run.num_inference_steps, settings.max_steps, Code.TOO_MANY_STEPS, field="num_inference_steps")
    check_at_most(run.num_images, settings.max_images, Code.TOO_MANY_IMAGES, field="num_images")
    check(run, card)
    tokenizer = await catalog.tokenizer(card)
    fitting(tokenizer, run.prompt, card.max_tokens, field="prompt")
    fitting(tokenizer, run.negative_prompt, card.max_tokens, field="negative_prompt")
    return run
