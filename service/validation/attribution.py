"""Checks of the question where targets are."""

from tokenizers import Tokenizer

from contracts.attribution import AttributeRequest, Target
from contracts.errors import Code, ServiceError
from contracts.models import ModelCard
from contracts.sources import check_image
from contracts.targets import check_embedding, effective, selected
from service.catalog import Catalog
from service.prompts import check_word, fitting
from service.validation.lookups import Lookups


async def checked(request: AttributeRequest, lookups: Lookups) -> AttributeRequest:
    """The request, if its job has the image and every target can be looked for in it."""
    result = await lookups.images_of(request.job_id, field="job_id")
    check_image(result, request.image, request.job_id, field="image")
    card = await lookups.catalog.model(result.model, field="job_id")
    tokenizer = await lookups.catalog.tokenizer(card)
    methods = {method.name: method for method in await lookups.catalog.methods()}
    for number, target in enumerate(request.targets):
        await check_target(target, card, tokenizer, lookups.catalog, field=f"targets.{number}")
        kept = result.self_attention or not result.blocks  # an old record does not tell
        chosen = effective(request, number, card, methods, self_attention=kept)
        if result.blocks:
            selected(chosen, result.blocks, result.evaluations)
    return request


async def check_target(target: Target, card: ModelCard, tokenizer: Tokenizer, catalog: Catalog, *, field: str) -> None:
    """Check that a target's word is in its prompt, its token one of the model's, or its embedding of its width."""
    if target.embedding is not None:
        check_embedding(target.embedding, card, field=f"{field}.embedding")
    if target.token is not None:
        token = await catalog.token(target.token, field=f"{field}.token")
        if token.model != card.name:
            detail = f"token {token.name!r} belongs to model {token.model!r}; the job's model is {card.name!r}"
            raise ServiceError(Code.TOKEN_OF_OTHER_MODEL, detail, field=f"{field}.token", value=token.name)
        token.row_of(target.class_name, field=f"{field}.class_name")
    if target.prompt is not None:
        prompt = fitting(tokenizer, target.prompt, card.max_tokens, field=f"{field}.prompt")
        check_word(prompt, target.word or target.prompt, target.occurrence, field=field)
