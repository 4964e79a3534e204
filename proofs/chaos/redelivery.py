"""How long the jobs of a dead worker wait until another one takes them."""

import asyncio
import time
from collections.abc import Callable, Iterable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.schema.jobs import JobRecord
from contracts.state import keys
from contracts.state.keys import text
from proofs.claims import Log

LOOK_EVERY = 0.05  # seconds
GIVEN_UP_AFTER = 120.0  # seconds


class Redelivery:
    """Watches the jobs that a worker held when it was killed or paused, until another attempt takes them."""

    def __init__(self, redis: Redis, unfinished: Callable[[], Iterable[str]], log: Log) -> None:
        self.redis = redis
        self.log = log
        self.unfinished = unfinished
        """The ids of jobs that their clients still wait for."""
        self.seconds: list[float] = []
        self.never = 0
        """Jobs of killed workers that nobody took."""
        self._held: list[JobRecord] = []
        self._watching: set[asyncio.Task[None]] = set()

    async def expect(self, worker: str) -> None:
        """Note what a worker holds."""
        self._held = []
        try:
            for job_id in list(self.unfinished()):
                record = JobRecord.stored(await self.redis.get(keys.job(job_id)))
                if record is None or record.state.final or not record.claimed:
                    continue
                holder = await self.redis.hget(f"{keys.docket_of(record.kind)}:runs:{job_id}", "worker")
                if holder is not None and text(holder) == worker:
                    self._held.append(record)
        except RedisError:
            self._held = []

    def begin(self) -> None:
        """The worker is dead, from this moment on."""
        for record in self._held:
            task = asyncio.create_task(self._watch(record, time.monotonic()))
            self._watching.add(task)
            task.add_done_callback(self._watching.discard)

    async def settled(self) -> None:
        """Wait for the last ones."""
        await asyncio.gather(*self._watching)

    async def _watch(self, before: JobRecord, begin: float) -> None:
        while time.monotonic() - begin < GIVEN_UP_AFTER:
            await asyncio.sleep(LOOK_EVERY)
            try:
                record = JobRecord.stored(await self.redis.get(keys.job(before.id)))
            except RedisError:
                continue
            if record is None or (record.state.final and record.attempt == before.attempt):
                return  # deleted, canceled, or finished in the last moment
            if record.attempt > before.attempt:
                self.seconds.append(time.monotonic() - begin)
                self.log.write("redelivered", job=before.id, kind=before.kind, state=before.state, seconds=self.seconds[-1])
                return
        self.never += 1
