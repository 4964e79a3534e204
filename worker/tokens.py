"""The shelf of learned tokens: a card in Redis, whose name is taken once, and an embedding in the artifact store."""

import json

import safetensors
import torch
from redis.asyncio import Redis
from safetensors import torch as safetensors_torch

from contracts import keys
from contracts.errors import Code, ServiceError
from contracts.models import ModelCard
from contracts.store import ArtifactStore
from contracts.tokens import TokenCard

TENSOR = "embedding"


async def find_card(redis: Redis, name: str) -> TokenCard | None:
    """A token's card."""
    data = await redis.hget(keys.TOKENS, name)
    return None if data is None else TokenCard.model_validate_json(data)


async def embedding_of(
    redis: Redis, store: ArtifactStore, name: str, model: ModelCard, *, field: str
) -> tuple[TokenCard, torch.Tensor]:
    """A token's card and its rows, the background first. ServiceError: unknown-token, token-of-other-model."""
    card = await find_card(redis, name)
    data = None if card is None else await store.get(keys.token_object(name, card.job_id))
    if card is None or data is None:
        raise ServiceError(Code.UNKNOWN_TOKEN, f"there is no token {name!r}", field=field, value=name)
    if card.model != model.name or card.width != model.text_width:
        detail = f"token {name!r} was learned on model {card.model!r}, the image is by {model.name!r}"
        raise ServiceError(Code.TOKEN_OF_OTHER_MODEL, detail, field=field, value=name)
    return card, read_embedding(data)


async def require_free(redis: Redis, name: str, job_id: str) -> None:
    """A ServiceError (token-exists) when another job's token has the name."""
    card = await find_card(redis, name)
    if card is not None and card.job_id != job_id:
        raise taken(name)


async def shelve(redis: Redis, card: TokenCard) -> None:
    """Take the name for the token, whose object is in the store already; token-exists if another job was faster."""
    if not await redis.hsetnx(keys.TOKENS, card.name, card.model_dump_json()):
        await require_free(redis, card.name, card.job_id)  # an earlier attempt at the same job may have taken it


async def withdraw(redis: Redis, store: ArtifactStore, name: str, job_id: str) -> None:
    """Remove whatever a job that did not succeed left on the shelf."""
    card = await find_card(redis, name)
    if card is not None and card.job_id == job_id:
        await redis.hdel(keys.TOKENS, name)
    await store.delete(keys.token_object(name, job_id))


def taken(name: str) -> ServiceError:
    """The problem of a name in use."""
    return ServiceError(Code.TOKEN_EXISTS, f"there is a token {name!r} already", field="name", value=name)


def write_embedding(embedding: torch.Tensor, facts: dict[str, object]) -> bytes:
    """A safetensors file with the rows and what is known of them."""
    tensors = {TENSOR: embedding.detach().float().cpu().contiguous()}
    return safetensors_torch.save(tensors, metadata={"token": json.dumps(facts)})


def read_embedding(data: bytes) -> torch.Tensor:
    """The rows of a token file. ServiceError: trace-unreadable."""
    try:
        return safetensors_torch.load(data)[TENSOR]
    except (safetensors.SafetensorError, KeyError) as error:
        raise ServiceError(Code.TRACE_UNREADABLE, "the token's object in the store is damaged") from error
