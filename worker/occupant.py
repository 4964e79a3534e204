"""Which job is on the device: told to Redis, so that only that one is charged with the worker's death."""

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.state import keys
from contracts.state.ledger import REMEMBERED

TOLD_WITHIN = 5.0  # seconds that a job waits for Redis to know that it begins

log = logging.getLogger(__name__)


class Occupant:
    """The job on this worker's device. The device's thread enters and leaves, the event loop tells Redis."""

    def __init__(self, redis: Redis) -> None:
        self.holder = uuid4().hex
        """This run of the worker: another run under the same name has another one."""
        self._redis = redis
        self._loop = asyncio.get_running_loop()
        self._in_order = asyncio.Lock()
        self._told: Future[None] | None = None  # what was told last
        self._closed = False
        self._jobs: list[str] = []  # innermost last: a long job lets shorter ones in between two of its steps

    @contextmanager
    def on_device(self, job_id: str, *, surely: bool) -> Iterator[None]:
        """Have a job on the device inside the `with`. `surely` waits until Redis knows it, before anything can go wrong."""
        self._jobs.append(job_id)
        told = self._tell()
        if surely:
            try:
                told.result(TOLD_WITHIN)
            except TimeoutError:
                log.warning("job %s begins, which Redis does not take notice of", job_id)
        try:
            yield
        finally:
            self._jobs.pop()
            self._tell()

    async def aclose(self) -> None:
        """Let Redis know the last of it, and nothing after that: whoever closes the connection next meets nobody using it."""
        if self._told is not None:
            await asyncio.wrap_future(self._told)
        async with self._in_order:
            self._closed = True

    def _tell(self) -> Future[None]:
        self._told = asyncio.run_coroutine_threadsafe(self._write(self._jobs[-1] if self._jobs else ""), self._loop)
        return self._told

    async def _write(self, job_id: str) -> None:
        async with self._in_order:
            if self._closed:
                return
            try:
                await self._redis.set(keys.on_device(self.holder), job_id, ex=REMEMBERED)
            except RedisError:
                log.warning("Redis is not told which job is on the device", exc_info=True)
