"""A dense CRF as large as a request may ask for, beside which the worker has to keep its promises."""

import asyncio

from redis.asyncio import Redis

from contracts.state import keys
from proofs.jobs import Request, finished, generate
from proofs.stage import Stage, client_of
from worker.presence import LIFE_SECONDS

NAME = "with-crf"
SIDE = 512  # pixels
CRF = {"iterations": 20}
TARGETS = 4
LOOK_EVERY = 0.05  # seconds


async def beside_a_crf(service: Stage, url: str, key: str, models: str) -> tuple[float, int]:
    """Run a real worker's dense CRF; the longest silence of its heart (s), and the attempts that the job took."""
    service.worker(NAME, OVAM_MODELS=models, OVAM_REDELIVERY_SECONDS="1")
    async with Redis.from_url(service.redis_url) as redis, client_of(url, key, 120) as client:
        async with asyncio.timeout(120):
            while not await redis.exists(keys.worker(NAME)):
                await asyncio.sleep(LOOK_EVERY)
        path, body = generate(1, steps=1)
        source = (await finished(client, (path, body | {"height": SIDE, "width": SIDE})))["id"]
        over = asyncio.Event()
        watching = asyncio.create_task(longest_silence(redis, over))
        record = await finished(client, question(source))
        await asyncio.sleep(1)
        over.set()
        return await watching, record["attempt"]


def question(source: str) -> Request:
    """Many targets, each with a dense CRF."""
    targets = [{"word": word} for word in ("cat", "dog", "hat", "tree")[:TARGETS]]
    return "/v1/attribute", {"job_id": source, "targets": targets, "settings": {"crf": CRF}}


async def longest_silence(redis: Redis, over: asyncio.Event) -> float:
    """Watch the worker's heartbeat until it is over; the longest time without one (s)."""
    longest = 0.0
    while not over.is_set():
        longest = max(longest, LIFE_SECONDS - await redis.pttl(keys.worker(NAME)) / 1000)
        await asyncio.sleep(LOOK_EVERY)
    return longest
