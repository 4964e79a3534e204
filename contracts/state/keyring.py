"""The keys that gateways let in: only their digests are stored.

A key has 256 random bits, so that nobody finds one by trying, and a plain SHA-256 is as safe as a slow hash. A key is looked up
by its digest, so that no comparison tells by its duration how much of a guess is right.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from contracts.schema.access import KeyCard
from contracts.state import keys

FORM = re.compile(r"ovam_[A-Za-z0-9_-]{43}")  # a prefix that scanners for secrets in public code can look for

# A key's card, and one request taken from its rate (GCRA): `full` is the moment at which all of the burst is free again.
ADMIT = """
local card = redis.call('HGET', KEYS[1], ARGV[1])
if not card then return false end
local rate = cjson.decode(card).limits.requests_per_second
if type(rate) ~= 'number' then return {card, 1, 0, 0} end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local step = 1000 / rate
local burst = math.ceil(rate) * step
local full = math.max(now, tonumber(redis.call('GET', KEYS[2]) or '0')) + step
local left = burst - (full - now)
if left < -0.001 then return {card, 0, 0, math.ceil(-left)} end
redis.call('SET', KEYS[2], string.format('%.3f', full), 'PX', math.ceil(full - now))
return {card, 1, math.floor(left / step + 0.001), math.ceil(full - now)}
"""


class KeyNameError(Exception):
    """There is a key of this name already, or there is none."""


@dataclass(frozen=True)
class Admission:
    """What a key's card says, and what is left of its rate."""

    card: KeyCard
    within_rate: bool
    remaining: int
    """Requests that may come at once, after this one."""
    milliseconds: int
    """Until the whole burst is free again; for a request beyond the rate, until it may come again."""


class Keyring:
    """Keys in Redis, by digest and by name."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.script = redis.register_script(ADMIT)

    async def create(self, card: KeyCard) -> str:
        """A new key, which is shown this once. KeyNameError if its name is taken."""
        key = f"ovam_{secrets.token_urlsafe(32)}"

        async def enter(pipe: Pipeline) -> None:
            if await pipe.hexists(keys.KEY_NAMES, card.name):
                raise KeyNameError(f"there is a key {card.name!r} already; revoke it, or choose another name")
            pipe.multi()
            pipe.hset(keys.KEY_NAMES, card.name, digest_of(key))
            pipe.hset(keys.KEYS, digest_of(key), card.model_dump_json())

        await self.redis.transaction(enter, keys.KEY_NAMES)
        return key

    async def cards(self) -> list[KeyCard]:
        """What is known of every key, by name."""
        cards = await self.redis.hvals(keys.KEYS)
        return sorted((KeyCard.model_validate_json(card) for card in cards), key=lambda card: card.name)

    async def revoke(self, name: str) -> None:
        """Let a key in no longer, from this moment on. KeyNameError if there is none of this name."""

        async def remove(pipe: Pipeline) -> None:
            digest = await pipe.hget(keys.KEY_NAMES, name)
            if digest is None:
                raise KeyNameError(f"there is no key {name!r}; `ovam keys list` shows those that there are")
            pipe.multi()
            pipe.hdel(keys.KEY_NAMES, name)
            pipe.hdel(keys.KEYS, digest)

        await self.redis.transaction(remove, keys.KEY_NAMES)

    async def admit(self, key: str) -> Admission | None:
        """Take one request from a key's rate, in one round trip; None for what is no key."""
        if not FORM.fullmatch(key):
            return None
        digest = digest_of(key)
        answer = await self.script(keys=[keys.KEYS, keys.rate(digest)], args=[digest])
        if answer is None:
            return None
        card, within, remaining, milliseconds = answer
        return Admission(KeyCard.model_validate_json(card), bool(within), remaining, milliseconds)


def digest_of(key: str) -> str:
    """What is stored instead of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
