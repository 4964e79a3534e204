"""Keys let in as often as their rate says; of a key that is revoked nothing stays."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from contracts.schema.access import KeyCard, Limits
from contracts.schema.jobs import utc_now
from contracts.state import keys
from contracts.state.keyring import KeyNameError, Keyring


def card(name: str, **limits: Any) -> KeyCard:
    return KeyCard(name=name, tenant="anne", scopes=["read"], limits=Limits(**limits), created_at=utc_now())


@pytest.mark.parametrize(("rate", "burst"), [(1.0, 1), (1.01, 2), (0.01, 1)])
async def test_as_many_requests_as_the_rate_rounded_up_may_come_at_once(redis_url: str, rate: float, burst: int) -> None:
    async with Redis.from_url(redis_url) as redis:
        ring = Keyring(redis)
        key = await ring.create(card("slow", requests_per_second=rate))
        answers = await asyncio.gather(*(ring.admit(key) for _ in range(burst + 1)))
        let_in = sorted(each.remaining for each in answers if each.within_rate)
        (refused,) = (each for each in answers if not each.within_rate)
        assert let_in == [*range(burst)]
        assert refused.remaining == 0
        assert 0 < refused.milliseconds <= 1000 / rate
        assert 0 < await redis.pttl(keys.rate((await redis.hkeys(keys.KEYS))[0].decode())) <= burst * 1000 / rate


async def test_of_a_key_that_is_revoked_nothing_stays_and_the_others_are_listed_by_name(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        ring = Keyring(redis)
        made = {name: await ring.create(card(name)) for name in "dbeac"}
        with pytest.raises(KeyNameError, match="already"):
            await ring.create(card("a"))
        assert [each.name for each in await ring.cards()] == [*"abcde"]
        for name, key in made.items():
            assert (await ring.admit(key)).card.name == name
            await ring.revoke(name)
            assert await ring.admit(key) is None
            with pytest.raises(KeyNameError, match="there is no key"):
                await ring.revoke(name)
        assert await redis.keys("*") == []
