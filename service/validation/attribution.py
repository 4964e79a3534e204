"""Checks of the question where targets are."""

from contracts.attribution import AttributeRequest, Target
from contracts.errors import Code, ServiceError
from contracts.models import ModelCard
from contracts.sources import check_image
from service.prompts import check_word, fitting
from service.validation.lookups import Lookups


async def checked(request: AttributeRequest, lookups: Lookups) -> AttributeRequest:
    """The request, if its job has the image and every target can be looked for in it."""
    result = await lookups.images_of(request.job_id, field="job_id")
    check_image(result, request.image, request.job_id, field="image")
    card = await lookups.catalog.model(result.model, field="job_id")
    for place, target in enumerate(request.targets):
        await check_target(target, card, lookups, field=f"targets.{place}")
    return request


async def check_target(target: Target, card: ModelCard, lookups: Lookups, *, field: str) -> None:
    """Check that a target's word is in its prompt, or that its token is one of the model's."""
    if target.token is not None:
        token = await lookups.catalog.token(target.token, field=f"{field}.token")
        if token.model != card.name:
            detail = f"token {token.name!r} belongs to model {token.model!r}; the job's model is {card.name!r}"
            raise ServiceError(Code.TOKEN_OF_OTHER_MODEL, detail, field=f"{field}.token", value=token.name)
    if target.prompt is not None:
        tokenizer = await lookups.catalog.tokenizer(card)
        prompt = fitting(tokenizer, target.prompt, card.max_tokens, field=f"{field}.prompt")
        check_word(prompt, target.word or target.prompt, target.occurrence, field=field)
