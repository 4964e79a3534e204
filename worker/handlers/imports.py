"""Take tokens from a file. Nothing of it is carried out, and nothing is kept unless all of it fits the model."""

import asyncio
import base64
import binascii
import re

from pydantic import TypeAdapter, ValidationError

from contracts import keys
from contracts.errors import Code, ServiceError
from contracts.fields import NAME, Label
from contracts.jobs import utc_now
from contracts.models import ModelCard
from contracts.tokens import MAX_CLASSES, ImportRequest, ImportResult, TokenFacts
from ovam import LearnedTokens, OvamError, token_files
from worker import tokens
from worker.attempts import Attempt
from worker.failures import problem_of
from worker.presence import offered
from worker.resources import Resources

LABELS = TypeAdapter(list[Label])


async def import_tokens(attempt: Attempt, request: ImportRequest, resources: Resources) -> ImportResult:
    """Read the file's tokens, and keep them when all of them fit. A ServiceError says what is wrong with it."""
    card = await offered(resources.redis, request.model or resources.settings.default)
    try:
        found = await asyncio.to_thread(read, request)
    except OvamError as error:
        raise problem_of(error, field="file") from error
    facts = [facts_of(attempt, number, name, learned, card) for number, (name, learned) in enumerate(found.items())]
    attempt.check()
    await asyncio.gather(
        *(
            tokens.keep(attempt, resources.store, name, known, learned.embedding)
            for known, (name, learned) in zip(facts, found.items(), strict=True)
        )
    )
    return ImportResult(model=card.name, width=card.text_width, tokens=list(found))


def read(request: ImportRequest) -> dict[str, LearnedTokens]:
    """The tokens of a file by the names they are to have. Raises what `ovam.token_files` raises, and ServiceError."""
    try:
        data = base64.b64decode(request.file, validate=True)
    except (binascii.Error, ValueError) as error:
        raise unreadable("the file is not base64; send its bytes, base64 in one line") from error
    name = request.name or ""
    match request.format:
        case "safetensors":
            return {name: token_files.from_safetensors(data)}
        case "textual-inversion":
            return {name: token_files.from_textual_inversion(data)}
        case "npy":
            return {name: token_files.from_npy(data, *(request.classes or ()))}
        case "published":
            published = token_files.from_published(data)
            names = [name_of(each, request.name) for each in published]
            if len(set(names)) < len(names):
                twice = next(each for each in names if names.count(each) > 1)
                raise unreadable(f"two of the file's classes would be called {twice!r}")
            return dict(zip(names, published.values(), strict=True))


def name_of(class_name: str, prefix: str | None) -> str:
    """What the token of a published class is called: `cell phone` of `coco` is `coco-cell-phone`."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", class_name.lower()).strip("-")
    name = f"{prefix}-{plain}" if prefix else plain
    if not plain or not re.fullmatch(NAME, name):
        raise unreadable(f"class {class_name[:100]!r} gives no name for a token: {name[:100]!r}")
    return name


def facts_of(attempt: Attempt, number: int, name: str, learned: LearnedTokens, card: ModelCard) -> TokenFacts:
    """What is known of a token from a file. ServiceError if it is not one for the model, or its classes have no names."""
    if learned.width != card.text_width:
        detail = f"token {name!r} is {learned.width} wide; model {card.name!r} takes {card.text_width}"
        raise ServiceError(Code.EMBEDDING_OF_OTHER_WIDTH, detail, field="file", value=learned.width)
    model = learned.metadata.get("model", card.name)
    if model != card.name:
        detail = f"token {name!r} was learned on model {str(model)[:100]!r}, not on {card.name!r}; name it in `model`"
        raise ServiceError(Code.TOKEN_OF_OTHER_MODEL, detail, field="file", value=str(model))
    try:
        classes = LABELS.validate_python(learned.names)
    except ValidationError as error:
        raise unreadable(f"token {name!r} has a class without a name, or with one of over 100 letters") from error
    if len(classes) > MAX_CLASSES or len(set(classes)) < len(classes):
        raise unreadable(f"token {name!r} has {len(classes)} classes; allowed: {MAX_CLASSES}, each with a name of its own")
    return TokenFacts(
        id=keys.token_id(attempt.job_id, attempt.number, number),
        model=card.name,
        width=learned.width,
        classes=classes,
        origin="import",
        job_id=attempt.job_id,
        created_at=utc_now(),
    )


def unreadable(detail: str) -> ServiceError:
    """The problem of a file that holds no tokens."""
    return ServiceError(Code.TOKEN_FILE_UNREADABLE, detail, field="file")
