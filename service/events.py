"""What happens to a job, as it happens: its event stream, read without polling."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from redis.asyncio import Redis

from contracts.schema.jobs import JobRecord, State
from contracts.state import keys
from contracts.state.keys import text
from contracts.state.ledger import Ledger

BLOCK = 5.0  # seconds that one read waits; then the job is looked up again, it may be gone
START = "0-0"


@dataclass(frozen=True)
class Event:
    """Something that happened: its place in the stream, its name and its JSON."""

    id: str
    name: str
    data: str

    @property
    def final(self) -> bool:
        """Whether nothing comes after it."""
        return State(json.loads(self.data)["state"]).final


async def follow(redis: Redis, job_id: str, after: str = START, *, seconds: float | None = None) -> AsyncIterator[Event]:
    """Events after `after` until the job is final or gone, or `seconds` are over. `redis` may be kept waiting."""
    clock = asyncio.get_running_loop().time
    end = None if seconds is None else clock() + seconds
    block: int | None = None  # the first read does not wait
    while True:
        for event in await read(redis, job_id, after, block):
            yield event
            after = event.id
            if event.final:
                return
        record = await Ledger(redis).find(job_id)
        left = BLOCK if end is None else min(BLOCK, end - clock())
        if record is None or (record.state.final and not await read(redis, job_id, after, None)) or left <= 0:
            return
        block = max(1, int(left * 1000))


async def read(redis: Redis, job_id: str, after: str, block: int | None) -> list[Event]:
    """The events after `after`, waiting up to `block` milliseconds for the first."""
    streams = await redis.xread({keys.events(job_id): after}, block=block)
    entries = streams[0][1] if streams else []
    return [Event(text(number), text(fields[b"event"]), text(fields[b"data"])) for number, fields in entries]


async def finished(redis: Redis, job_id: str, seconds: float) -> JobRecord:
    """The record once it is final, or as it is after `seconds`."""
    async for _ in follow(redis, job_id, seconds=seconds):
        pass
    return await Ledger(redis).get(job_id)
