"""Learned tokens as a worker handles them: rows by name, and the files of new ones."""

import asyncio

from jaxtyping import Float
from redis.asyncio import Redis
from torch import Tensor

from contracts import keys
from contracts.errors import Code, ServiceError
from contracts.models import ModelCard
from contracts.registry import NewToken, Registry
from contracts.store import ArtifactStore
from contracts.tokens import TokenCard, TokenFacts
from ovam import LearnedTokens, OvamError
from ovam.token_files import from_safetensors, to_npy, to_safetensors, to_textual_inversion
from worker.attempts import Attempt

FORMS = {"safetensors": to_safetensors, "textual-inversion": to_textual_inversion, "npy": to_npy}


async def embedding_of(
    redis: Redis, store: ArtifactStore, reference: str, model: ModelCard, *, field: str
) -> tuple[TokenCard, Float[Tensor, "classes width"]]:
    """A token and its rows, the background's first. ServiceError: unknown-token, token-of-other-model, trace-unreadable."""
    card = (await Registry(redis).get(reference, field=field)).on(model, field=field)
    data = await store.get(keys.token_object(card.id, "safetensors"))
    try:
        return card, from_safetensors(data or b"").embedding
    except OvamError as error:
        raise ServiceError(Code.TRACE_UNREADABLE, f"the file of token {card.reference!r} in the store is damaged") from error


async def keep(attempt: Attempt, store: ArtifactStore, name: str, facts: TokenFacts, embedding: Tensor) -> None:
    """Write a new token in every form it can be asked for, to be entered in the registry when the attempt ends."""
    attempt.tokens.append(NewToken(name, facts))
    learned = LearnedTokens(embedding, tuple(facts.classes), facts.model_dump(mode="json", exclude={"id"}, exclude_defaults=True))
    await asyncio.gather(*(store.put(keys.token_object(facts.id, form), write(learned)) for form, write in FORMS.items()))
