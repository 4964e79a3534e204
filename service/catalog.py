"""What the workers have published: models and their tokenizers; and the learned tokens."""

from copy import copy
from typing import Self

from redis.asyncio import Redis
from tokenizers import Tokenizer

from contracts.schema.errors import Code, ServiceError
from contracts.schema.models import ModelCard
from contracts.schema.tokens import TokenCard
from contracts.state import keys
from contracts.state.registry import Registry

RETRY_AFTER = 10  # seconds, while no worker has published a model


class Catalog:
    """Cards in Redis; what was parsed, cards and tokenizers, is kept as long as it stays the same."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.registry = Registry(redis)
        self.parsed: dict[str, tuple[tuple[ModelCard, int], Tokenizer]] = {}
        self.cards: dict[bytes, ModelCard] = {}
        self.is_view = False
        self.seen: list[ModelCard] | None = None
        """What a client's view has read: a request is checked against one and the same card."""

    def seen_by(self, tenant: str) -> Self:
        """The same with a tenant's tokens."""
        view = copy(self)
        view.registry = Registry(self.redis, tenant)
        view.is_view = True
        return view

    async def models(self) -> list[ModelCard]:
        """The models that are served, by name."""
        if self.seen:
            return self.seen
        found = await self.redis.hvals(keys.MODELS)
        cards = {card: self.cards.get(card) or ModelCard.model_validate_json(card) for card in found}
        self.cards.clear()
        self.cards |= cards
        models = sorted(cards.values(), key=lambda card: card.name)
        if self.is_view:
            self.seen = models
        return models

    async def model(self, name: str | None, *, field: str = "model") -> ModelCard:
        """The model of a name, or the default one."""
        cards = await self.models()
        if not cards:
            raise ServiceError(Code.NO_WORKER, "no worker has published a model yet", retry_after=RETRY_AFTER)
        for card in cards:
            if card.name == name or (name is None and card.default):
                return card
        served = ", ".join(card.name for card in cards)
        detail = f"there is no model {name!r}; served: {served}" if name else f"no model is the default; name one of {served}"
        raise ServiceError(Code.UNKNOWN_MODEL, detail, field=field, value=name)

    async def tokenizer(self, card: ModelCard) -> Tokenizer:
        """The tokenizer of a model, without padding and truncation."""
        stamp = card, await self.redis.hstrlen(keys.TOKENIZERS, card.name)
        known = self.parsed.get(card.name)
        if known and known[0] == stamp:
            return known[1]
        content = await self.redis.hget(keys.TOKENIZERS, card.name)
        if content is None:
            detail = f"the tokenizer of model {card.name!r} has not been published yet"
            raise ServiceError(Code.NO_WORKER, detail, retry_after=RETRY_AFTER)
        tokenizer = Tokenizer.from_buffer(content if isinstance(content, bytes) else content.encode())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.parsed[card.name] = stamp, tokenizer
        return tokenizer

    async def token(self, reference: str, *, field: str | None = None) -> TokenCard:
        """The token of `name@version`, or the newest of `name`: its `reference` says which. ServiceError: unknown-token."""
        return await self.registry.get(reference, field=field)
