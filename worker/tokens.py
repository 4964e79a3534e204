"""Learned tokens as a worker handles them: rows by reference, and the files of new tokens."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from contracts.schema.errors import Code, ServiceError
from contracts.schema.tokens import TokenCard, TokenFacts
from contracts.state import keys
from contracts.state.registry import NewToken, Registry
from contracts.state.store import ArtifactStore
from ovam.errors import OvamError
from ovam.learning.token_files import LearnedTokens, from_safetensors, to_npy, to_safetensors, to_textual_inversion

FORMATS = {"safetensors": to_safetensors, "textual-inversion": to_textual_inversion, "npy": to_npy}
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class UnregisteredToken:
    """A token without a version: it gets one when its job ends."""

    name: str
    facts: TokenFacts
    embedding: Float[Tensor, "classes width"]
    """A row for each class, the background's first."""

    @property
    def entry(self) -> NewToken:
        """What is entered in the registry."""
        return NewToken(self.name, self.facts)


async def rows_of_token(
    registry: Registry, store: ArtifactStore, reference: str, *, field: str
) -> tuple[TokenCard, Float[Tensor, "classes width"]]:
    """Return a token's card and its rows, the background's first. ServiceError: unknown-token, token-file-unreadable."""
    card = await registry.get(reference, field=field)
    data = await store.get(keys.token_object(card.id, "safetensors"))
    try:
        return card, from_safetensors(data or b"").embedding
    except OvamError as error:
        detail = f"the file of token {card.reference!r} in the store is damaged or missing"
        raise ServiceError(Code.TOKEN_FILE_UNREADABLE, detail, field=field, value=reference) from error


async def write(store: ArtifactStore, tokens: Sequence[UnregisteredToken]) -> None:
    """Store every token in each format that clients can download."""
    for token in tokens:
        facts = token.facts.model_dump(mode="json", exclude={"id"}, exclude_defaults=True)
        learned = LearnedTokens(token.embedding, tuple(token.facts.classes), facts)
        files = {keys.token_object(token.facts.id, name): encode(learned) for name, encode in FORMATS.items()}
        await asyncio.gather(*(store.put(key, data) for key, data in files.items()))


async def discard(store: ArtifactStore, tokens: Sequence[UnregisteredToken]) -> None:
    """Delete the files of tokens that are not registered after all."""
    try:
        for token in tokens:
            await store.delete_folder(keys.token_folder(token.facts.id))
    except ServiceError:
        log.exception("files of tokens %s stay in the store", [token.facts.id for token in tokens])
