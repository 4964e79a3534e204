"""Checks of a request to learn a token."""

import asyncio

from contracts import masks
from contracts.errors import Code, ServiceError
from contracts.generation import GenerateResult
from contracts.models import ModelCard
from contracts.optimization import OptimizeRequest, Start
from contracts.sources import check_image
from service.prompts import fitting
from service.validation.lookups import Lookups

LARGEST = 3.4028234e38  # of single precision


async def checked(request: OptimizeRequest, lookups: Lookups) -> OptimizeRequest:
    """The request, if every example teaches something and every class has a start; tokens to start from get their versions."""
    sources = [await source_of(request, place, lookups) for place in range(len(request.examples))]
    models = [source.model for source in sources]
    if len(set(models)) > 1:
        detail = f"all examples must come from one model; these come from {', '.join(sorted(set(models)))}"
        raise ServiceError(Code.EXAMPLES_OF_OTHER_MODELS, detail, field="examples", value=[*models])
    await asyncio.to_thread(masks.check, request, [(source.height, source.width) for source in sources])
    card = await lookups.catalog.model(models[0], field="examples.0.job_id")
    starts = request.start or [None] * len(request.classes)
    resolved = [await checked_start(start, place, request, card, lookups) for place, start in enumerate(starts)]
    return request.model_copy(update={"start": resolved if request.start else None})


async def source_of(request: OptimizeRequest, place: int, lookups: Lookups) -> GenerateResult:
    """The images that an example is one of."""
    example, field = request.examples[place], f"examples.{place}"
    result = await lookups.images_of(example.job_id, field=f"{field}.job_id")
    check_image(result, example.image, example.job_id, field=f"{field}.image")
    return result


async def checked_start(
    start: Start | None, place: int, request: OptimizeRequest, card: ModelCard, lookups: Lookups
) -> Start | None:
    """What a class starts from, with the version of its token."""
    if start is None or start.word is not None:
        word = request.classes[place] if start is None else start.word or ""
        field = f"classes.{place}" if start is None else f"start.{place}.word"
        fitting(await lookups.catalog.tokenizer(card), f"A photograph of a {word}", card.max_tokens, field=field)
        return start
    if start.embedding is not None:
        check_row(start.embedding, card, field=f"start.{place}.embedding")
        return start
    field = f"start.{place}.token"
    token = (await lookups.catalog.token(start.token or "", field=field)).on(card, field=field)
    token.row(start.class_name, field=f"start.{place}.class_name")
    return start.model_copy(update={"token": token.reference})


def check_row(row: list[float], card: ModelCard, *, field: str) -> None:
    """Refuse a row that the model cannot take, or single precision cannot hold."""
    if len(row) != card.text_width:
        detail = f"the row is {len(row)} wide; model {card.name!r} takes {card.text_width}"
        raise ServiceError(Code.EMBEDDING_OF_OTHER_WIDTH, detail, field=field, value=len(row))
    if max(map(abs, row)) > LARGEST:
        detail = f"the row has numbers beyond single precision; allowed: {LARGEST} at most"
        raise ServiceError(Code.EMBEDDING_NOT_FINITE, detail, field=field, value=max(row, key=abs))
