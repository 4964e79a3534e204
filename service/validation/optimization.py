"""Checks of a request to learn a token."""

import asyncio

from contracts.errors import Code, ServiceError
from contracts.optimization import Example, OptimizeRequest
from contracts.sources import check_image
from service.masks import check_mask
from service.prompts import fitting
from service.validation.lookups import Lookups


async def checked(request: OptimizeRequest, lookups: Lookups) -> OptimizeRequest:
    """The request, if every example has a mask that fits its image."""
    models = [await check_example(example, lookups, field=f"examples.{place}") for place, example in enumerate(request.examples)]
    if len(set(models)) > 1:
        detail = f"all examples must come from one model; these come from {', '.join(sorted(set(models)))}"
        raise ServiceError(Code.EXAMPLES_OF_OTHER_MODELS, detail, field="examples", value=[*models])
    card = await lookups.catalog.model(models[0], field="examples.0.job_id")
    tokenizer = await lookups.catalog.tokenizer(card)
    for place, name in enumerate(request.classes):
        fitting(tokenizer, f"A photograph of a {name}", card.max_tokens, field=f"classes.{place}")
    return request


async def check_example(example: Example, lookups: Lookups, *, field: str) -> str:
    """The model of an example, once its job, image and mask are found good."""
    result = await lookups.images_of(example.job_id, field=f"{field}.job_id")
    check_image(result, example.image, example.job_id, field=f"{field}.image")
    await asyncio.to_thread(check_mask, example.mask, (result.height, result.width), field=f"{field}.mask")
    return result.model
