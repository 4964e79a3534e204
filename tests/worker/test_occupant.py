"""Which job is on a worker's device, as Redis knows it."""

import asyncio
import time

import redis as blocking
from redis.asyncio import Redis

from contracts.state import keys
from contracts.state.ledger import REMEMBERED
from worker.occupant import Occupant


async def test_the_job_that_began_last_is_on_the_device_and_the_one_it_came_between_again_after_it(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        occupant = Occupant(redis)
        place, seen = keys.on_device(occupant.holder), []

        def work() -> None:
            with blocking.Redis.from_url(redis_url) as look:

                def told(job: bytes) -> bool:
                    until = time.monotonic() + 10
                    while look.get(place) != job and time.monotonic() < until:
                        time.sleep(0.01)
                    return look.get(place) == job

                with occupant.on_device("long", surely=True):
                    seen.append(look.get(place))
                    with occupant.on_device("short", surely=True):
                        seen.append(look.get(place))
                    seen.append(told(b"long"))
                seen.append(told(b""))

        await asyncio.to_thread(work)
        assert seen == [b"long", b"short", True, True]
        assert 0 < await redis.ttl(place) <= REMEMBERED.total_seconds()
        assert Occupant(redis).holder != occupant.holder  # the worker's next run, under the same name


async def test_a_job_begins_also_if_redis_cannot_be_told() -> None:
    async with Redis.from_url("redis://127.0.0.1:1/0") as away:
        occupant, done = Occupant(away), []

        def work() -> None:
            with occupant.on_device("job", surely=True):
                done.append("job")

        await asyncio.to_thread(work)
    assert done == ["job"]


async def test_redis_knows_the_last_of_it_when_the_worker_closes_and_nothing_after(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        occupant = Occupant(redis)

        def work(job: str) -> None:
            with occupant.on_device(job, surely=False):
                pass

        work("job")  # on the event loop's own thread: all of it is still to be told
        await occupant.aclose()
        assert await redis.get(keys.on_device(occupant.holder)) == b""
        await redis.delete(keys.on_device(occupant.holder))
        await asyncio.to_thread(work, "late")
        await asyncio.sleep(0.05)
        assert await redis.get(keys.on_device(occupant.holder)) is None
