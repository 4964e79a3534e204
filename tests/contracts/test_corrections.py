"""What people corrected: kept by tenant and token, the newest of each annotation, and no more than a token learns from."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from contracts.schema.optimize import MAX_EXAMPLES, MaskExample
from contracts.state.corrections import LEARNER, LIFE, Corrections, Home
from contracts.state.keys import corrections


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


def example(number: int) -> MaskExample:
    return MaskExample.model_validate({"job_id": "0" * 26, "image": number, "mask": {"size": [1, 1], "counts": "1"}})


async def test_annotations_are_a_tenants_and_a_tokens_and_the_oldest_go(redis: Redis) -> None:
    kept = Corrections(redis, "anne")
    for number in range(MAX_EXAMPLES + 2):
        await kept.put("car", str(number), example(number))
    await kept.put("car", "2", example(99))  # annotated anew: the newest
    assert [*await kept.all("car")] == [*map(str, range(3, MAX_EXAMPLES + 2)), "2"]
    assert (await kept.all("car"))["2"].image == 99
    assert (
        await kept.all("dog") == await Corrections(redis, "car").all("anne") == await Corrections(redis, "bert").all("car") == {}
    )
    assert 0 < await redis.ttl(corrections("car", "anne")) <= LIFE.total_seconds()
    assert await kept.remove("car", "3", "no")
    assert not await kept.remove("car", "3")


async def test_the_job_that_learns_is_no_annotation(redis: Redis) -> None:
    kept = Corrections(redis, "anne")
    assert await kept.learner("car", "one") is None
    assert await kept.learner("car", "two") == "one"
    assert await kept.all("car") == {}
    assert await redis.hget(corrections("car", "anne"), LEARNER) == b"two"  # it lives as long as the annotations
    assert await kept.home("7") is None
    await kept.set_home("7", Home(hostname="https://studio"))
    assert await kept.home("7") == Home(hostname="https://studio")
    assert await Corrections(redis, "7").home("anne") is None
