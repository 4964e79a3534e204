"""From a request to learn a token to the job: checked examples, and an initial embedding for each class."""

from collections.abc import Sequence
from typing import assert_never

from contracts.rules.adapters import asked_again, check_there
from contracts.rules.attentions import check_stream
from contracts.rules.selections import check_selections
from contracts.rules.sources import check_image
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import ImagesResult
from contracts.schema.models import ModelCard
from contracts.schema.optimize import (
    LEARNING_RATES,
    EmbeddingInitial,
    Initial,
    OptimizeJob,
    OptimizeRequest,
    TokenInitial,
    WordInitial,
)
from service.prompts import fitting
from service.validation.lookups import Lookups

LARGEST = 3.4028234e38  # of single precision


async def filled(request: OptimizeRequest, lookups: Lookups) -> OptimizeJob:
    """The job, if every example teaches something and every class has an initial embedding."""
    sources = [await source_of(request, place, lookups) for place in range(len(request.examples))]
    models = [source.model for source in sources]
    if len(set(models)) > 1:
        detail = f"all examples must come from one model; these come from {', '.join(sorted(set(models)))}"
        raise ServiceError(Code.EXAMPLES_OF_OTHER_MODELS, detail, field="examples", value=", ".join(models))
    await lookups.decoders.check(request, [(source.height, source.width) for source in sources])
    card = await lookups.catalog.model(models[0], field="examples.0.job_id")
    check_adapters(sources, card)
    for source in sources:
        check_stream(card, source.blocks, attention=None, blocks=request.blocks, heads="all")
    given = request.initial or [None] * len(request.classes)
    initial = [await filled_initial(each, place, request, card, lookups) for place, each in enumerate(given)]
    rate = LEARNING_RATES[request.optimizer] if request.learning_rate is None else request.learning_rate
    return OptimizeJob.model_validate(dict(request) | {"model": card.name, "initial": initial, "learning_rate": rate})


def check_adapters(sources: Sequence[ImagesResult], card: ModelCard) -> None:
    """Raise examples-of-other-models unless all examples were made with the same adapters, which are there."""
    for place, source in enumerate(sources):
        check_there(source, card, field=f"examples.{place}.job_id")
        if asked_again(source) != asked_again(sources[0]):
            names = [
                ", ".join(f"{use.name} x {use.scale:g}" for use in asked_again(each)) or "none" for each in (sources[0], source)
            ]
            detail = f"all examples must be made with the same adapters; those of example 0 are {names[0]}, of {place} {names[1]}"
            raise ServiceError(Code.EXAMPLES_OF_OTHER_MODELS, detail, field=f"examples.{place}.job_id", value=names[1])


async def source_of(request: OptimizeRequest, place: int, lookups: Lookups) -> ImagesResult:
    """The images that a training example is one of."""
    example, field = request.examples[place], f"examples.{place}"
    images = await lookups.images_of(example.job_id, field=f"{field}.job_id")
    check_image(images, example.image, example.job_id, field=f"{field}.image")
    check_selections(images, blocks=request.blocks, evaluations=request.evaluations)
    return images


async def filled_initial(
    given: Initial | None, place: int, request: OptimizeRequest, card: ModelCard, lookups: Lookups
) -> Initial:
    """What a class starts from: its name as a word, unless something is given; a token gets its version and class."""
    field = f"initial.{place}"
    match given:
        case None:
            await check_initial_word(request.classes[place], card, lookups, field=f"classes.{place}")
            return WordInitial(word=request.classes[place])
        case WordInitial():
            await check_initial_word(given.word, card, lookups, field=f"{field}.word")
            return given
        case EmbeddingInitial():
            check_row(given.embedding, card, field=f"{field}.embedding")
            return given
        case TokenInitial():
            token = (await lookups.catalog.token(given.token, field=f"{field}.token")).on(card, field=f"{field}.token")
            name = token.classes[token.row(given.class_name, field=f"{field}.class_name") - 1]
            return TokenInitial(token=token.reference, class_name=name)
        case _:
            assert_never(given)


async def check_initial_word(word: str, card: ModelCard, lookups: Lookups, *, field: str) -> None:
    """Raise prompt-too-long for a word that does not fit into the prompt from which its embedding is taken."""
    fitting(await lookups.catalog.tokenizer(card), f"A photograph of a {word}", card.max_tokens, field=field)


def check_row(row: list[float], card: ModelCard, *, field: str) -> None:
    """Refuse a row that the model cannot take, or single precision cannot hold."""
    if len(row) != card.text_width:
        detail = f"the row is {len(row)} wide; model {card.name!r} takes {card.text_width}"
        raise ServiceError(Code.EMBEDDING_OF_OTHER_WIDTH, detail, field=field, value=len(row))
    if max(map(abs, row)) > LARGEST:
        detail = f"the row has numbers beyond single precision; allowed: {LARGEST} at most"
        raise ServiceError(Code.EMBEDDING_NOT_FINITE, detail, field=field, value=max(row, key=abs))
