"""Read tokens from a file. Nothing in it is executed, and nothing is kept unless all of it fits the model."""

import asyncio
import base64
import binascii
import re

from pydantic import TypeAdapter, ValidationError

from contracts.schema.errors import Code, ServiceError, service_error
from contracts.schema.fields import NAME, Label
from contracts.schema.jobs import utc_now
from contracts.schema.models import ModelCard
from contracts.schema.tokens import MAX_CLASSES, ImportJob, ImportResult, TokenFacts
from contracts.state import keys
from ovam.errors import OvamError
from ovam.learning import token_files
from ovam.learning.token_files import LearnedTokens
from worker.attempts import Attempt
from worker.outcomes import Outcome
from worker.presence import published_card
from worker.resources import Resources
from worker.tokens import UnregisteredToken

LABELS = TypeAdapter(list[Label])


async def imports(attempt: Attempt, job: ImportJob, resources: Resources) -> Outcome:
    """Read the file's tokens, if all of them fit the model. A ServiceError says what is wrong with the file."""
    attempt.begin()
    card = await published_card(resources.redis, job.model)
    try:
        learned = await asyncio.to_thread(read, job)
    except OvamError as error:
        raise service_error(error, field="file") from error
    tokens = tuple(
        UnregisteredToken(name, facts_of(attempt, number, name, each, card), each.embedding)
        for number, (name, each) in enumerate(learned.items())
    )
    return Outcome(ImportResult(model=card.name, width=card.text_width, tokens=[*learned]), tokens)


def read(job: ImportJob) -> dict[str, LearnedTokens]:
    """Return the tokens of a file by the names that they get. Raises OvamError and ServiceError."""
    try:
        data = base64.b64decode(job.file, validate=True)
    except (binascii.Error, ValueError) as error:
        raise unreadable("the file is not base64; send its bytes, base64 in one line") from error
    name = job.name or ""
    match job.format:
        case "safetensors":
            return {name: token_files.from_safetensors(data)}
        case "textual-inversion":
            return {name: token_files.from_textual_inversion(data)}
        case "npy":
            return {name: token_files.from_npy(data, *(job.classes or ()))}
        case "published":
            published = token_files.from_published(data)
            names = [name_of(each, job.name) for each in published]
            if len(set(names)) < len(names):
                twice = next(each for each in names if names.count(each) > 1)
                raise unreadable(f"two of the file's classes would be called {twice!r}")
            return dict(zip(names, published.values(), strict=True))


def name_of(class_name: str, prefix: str | None) -> str:
    """Name the token of a published class: `cell phone` with the prefix `coco` is `coco-cell-phone`."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", class_name.lower()).strip("-")
    name = f"{prefix}-{plain}" if prefix else plain
    if not plain or not re.fullmatch(NAME, name):
        raise unreadable(f"class {class_name[:100]!r} makes no valid name for a token: {name[:100]!r}")
    return name


def facts_of(attempt: Attempt, number: int, name: str, learned: LearnedTokens, card: ModelCard) -> TokenFacts:
    """Describe a token from a file. ServiceError if it does not fit the model, or its classes have no names."""
    if learned.width != card.text_width:
        detail = f"token {name!r} is {learned.width} wide; model {card.name!r} takes {card.text_width}"
        raise ServiceError(Code.EMBEDDING_OF_OTHER_WIDTH, detail, field="file", value=learned.width)
    model = learned.metadata.get("model", card.name)
    if model != card.name:
        detail = f"token {name!r} was learned on model {str(model)[:100]!r}, not on {card.name!r}; name it in `model`"
        raise ServiceError(Code.TOKEN_OF_OTHER_MODEL, detail, field="file", value=str(model))
    if learned.family not in (None, card.attention_family):
        own = card.attention_family
        detail = f"token {name!r} was learned with a model of family {learned.family!r}; model {card.name!r} is of {own!r}"
        raise ServiceError(Code.TOKEN_OF_OTHER_FAMILY, detail, field="file", value=learned.family)
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
        family=card.attention_family,
        classes=classes,
        origin="import",
        job_id=attempt.job_id,
        created_at=utc_now(),
    )


def unreadable(detail: str) -> ServiceError:
    """Return the problem of a file from which no tokens can be read."""
    return ServiceError(Code.TOKEN_FILE_UNREADABLE, detail, field="file")
