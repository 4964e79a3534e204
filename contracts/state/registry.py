"""The registry of learned tokens in Redis: the one place that reads and writes it, for gateway and workers alike.

A name has versions 1, 2, ... that never change; the last number is kept as long as the name has a version, so that none
is given twice. A token gets its name and number in the transaction in which its job ends (see `contracts.state.ledger`): a job
that did not succeed has no token, and one that was started twice has one.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from contracts.schema.errors import Code, ServiceError
from contracts.schema.tokens import TokenCard, TokenFacts, TokenListing
from contracts.state import keys
from contracts.state.keys import text

Reference = tuple[str, int | None]
"""A name, and a version of it; None for the newest, or for all, as the case may be."""


@dataclass(frozen=True)
class NewToken:
    """A token that has no number yet."""

    name: str
    facts: TokenFacts


class Registry:
    """Cards of a tenant's learned tokens, by name and version."""

    def __init__(self, redis: Redis, tenant: str = "") -> None:
        self.redis = redis
        self.names = keys.of(tenant, keys.TOKENS)
        self.tenant = tenant

    async def find(self, reference: str) -> TokenCard | None:
        """The token of `name@version`, or the newest of `name`; None if there is none."""
        name, version = split(reference)
        if version is None:
            version = max(map(int, await self.redis.hkeys(keys.token(name, self.tenant))), default=0)
        facts = await self.redis.hget(keys.token(name, self.tenant), str(version))
        return None if facts is None else card_of(name, version, facts)

    async def get(self, reference: str, *, field: str | None = None) -> TokenCard:
        """The token of `name@version`, or the newest of `name`. ServiceError: unknown-token."""
        card = await self.find(reference)
        if card is None:
            raise unknown(reference, field)
        return card

    async def versions(self, name: str, *, field: str | None = None) -> list[TokenCard]:
        """Every version of a name, the newest first. ServiceError: unknown-token."""
        found = await self.redis.hgetall(keys.token(name, self.tenant))
        if not found:
            raise unknown(name, field)
        return [card_of(name, version, facts) for version, facts in newest_first(found)]

    async def page(self, after: str, limit: int) -> list[TokenListing]:
        """Up to `limit` names beyond `after`, in their order: the newest version of each, and how many it has."""
        names = sorted(name for name in map(text, await self.redis.hkeys(self.names)) if name > after)[:limit]
        async with self.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(keys.token(name, self.tenant))
            versions = await pipe.execute()
        return [listing_of(name, found) for name, found in zip(names, versions, strict=True) if found]

    async def remove(self, reference: str, *, field: str | None = None) -> list[TokenCard]:
        """Take a version away, or with a bare name all of them; returns what is gone. ServiceError: unknown-token."""
        name, version = split(reference)

        async def take(pipe: Pipeline) -> list[TokenCard]:
            found = dict(newest_first(await pipe.hgetall(keys.token(name, self.tenant))))
            gone = found if version is None else {number: found[number] for number in found if number == version}
            if not gone:
                raise unknown(reference, field)
            pipe.multi()
            pipe.hdel(keys.token(name, self.tenant), *map(str, gone))
            if len(gone) == len(found):
                pipe.hdel(self.names, name)
            return [card_of(name, number, facts) for number, facts in gone.items()]

        return await self.redis.transaction(take, self.names, keys.token(name, self.tenant), value_from_callable=True)

    async def rename(self, name: str, new: str) -> TokenCard:
        """Give a name's versions another name; returns the newest. ServiceError: unknown-token, token-exists."""

        async def move(pipe: Pipeline) -> TokenCard:
            newest = await pipe.hget(self.names, name)
            if newest is None:
                raise unknown(name, "reference")
            if new != name and await pipe.hexists(self.names, new):
                raise ServiceError(Code.TOKEN_EXISTS, f"there is a token {new!r} already", field="name", value=new)
            (version, facts), *_ = newest_first(await pipe.hgetall(keys.token(name, self.tenant)))
            pipe.multi()
            pipe.hdel(self.names, name)
            pipe.hset(self.names, new, newest)
            pipe.rename(keys.token(name, self.tenant), keys.token(new, self.tenant))
            return card_of(new, version, facts)

        watched = (self.names, keys.token(name, self.tenant), keys.token(new, self.tenant))
        return await self.redis.transaction(move, *watched, value_from_callable=True)


async def numbered(pipe: Pipeline, tokens: Sequence[NewToken], tenant: str = "") -> list[TokenCard]:
    """A tenant's tokens with the numbers that are next; `pipe` has to watch the tenant's `keys.TOKENS`."""
    newest: dict[str, int] = {}
    cards = []
    for token in tokens:
        last = newest[token.name] if token.name in newest else int(await pipe.hget(keys.of(tenant, keys.TOKENS), token.name) or 0)
        newest[token.name] = last + 1
        cards.append(TokenCard(name=token.name, version=last + 1, **dict(token.facts)))
    return cards


def enter(pipe: Pipeline, cards: Sequence[TokenCard], tenant: str = "") -> None:
    """Queue the commands that enter a tenant's numbered tokens."""
    for card in cards:
        pipe.hset(keys.of(tenant, keys.TOKENS), card.name, str(card.version))
        pipe.hset(keys.token(card.name, tenant), str(card.version), card.model_dump_json(exclude={"name", "version"}))


def split(reference: str) -> Reference:
    """The two parts of a reference."""
    name, _, version = reference.partition("@")
    return name, int(version) if version else None


def newest_first(found: dict[bytes, bytes]) -> list[tuple[int, bytes]]:
    """What Redis has of a name, by number."""
    return sorted(((int(version), facts) for version, facts in found.items()), reverse=True)


def card_of(name: str, version: int, facts: bytes | str) -> TokenCard:
    """The card of stored facts. A renamed token's facts stay as they are, so that no card can disagree with its place."""
    return TokenCard.model_validate({**json.loads(facts), "name": name, "version": version})


def listing_of(name: str, found: dict[bytes, bytes]) -> TokenListing:
    """A name's newest version among those that Redis has of it."""
    version, facts = newest_first(found)[0]
    return TokenListing(versions=len(found), **dict(card_of(name, version, facts)))


def unknown(reference: str, field: str | None) -> ServiceError:
    """The problem of a token that is not there."""
    return ServiceError(Code.UNKNOWN_TOKEN, f"there is no token {reference!r}; see GET /v1/tokens", field=field, value=reference)
