"""Checks of the question where targets are."""

from tokenizers import Tokenizer

from contracts.attribution import AttributeRequest, Target
from contracts.models import ModelCard
from contracts.sources import check_image
from contracts.targets import check_embedding, effective, selected
from service.catalog import Catalog
from service.prompts import check_word, fitting
from service.validation.lookups import Lookups


async def checked(request: AttributeRequest, lookups: Lookups) -> AttributeRequest:
    """The request with its tokens' versions, if its job has the image and every target can be looked for in it."""
    result = await lookups.images_of(request.job_id, field="job_id")
    check_image(result, request.image, request.job_id, field="image")
    card = await lookups.catalog.model(result.model, field="job_id")
    tokenizer = await lookups.catalog.tokenizer(card)
    methods = {method.name: method for method in await lookups.catalog.methods()}
    targets = []
    for number, target in enumerate(request.targets):
        targets.append(await checked_target(target, card, tokenizer, lookups.catalog, field=f"targets.{number}"))
        kept = result.self_attention or not result.blocks  # an old record does not tell
        chosen = effective(request, number, card, methods, self_attention=kept)
        if result.blocks:
            selected(chosen, result.blocks, result.evaluations)
    return request.model_copy(update={"targets": targets})


async def checked_target(target: Target, card: ModelCard, tokenizer: Tokenizer, catalog: Catalog, *, field: str) -> Target:
    """A target, if its word is in its prompt, its token one of the model's, or its embedding of the model's width."""
    if target.embedding is not None:
        check_embedding(target.embedding, card, field=f"{field}.embedding")
    if target.token is not None:
        token = (await catalog.token(target.token, field=f"{field}.token")).on(card, field=f"{field}.token")
        token.row(target.class_name, field=f"{field}.class_name")
        return target.model_copy(update={"token": token.reference})
    if target.prompt is not None:
        prompt = fitting(tokenizer, target.prompt, card.max_tokens, field=f"{field}.prompt")
        check_word(prompt, target.word or target.prompt, target.occurrence, field=field)
    return target
