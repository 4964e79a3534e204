"""Whether this worker takes jobs: not while its store takes no writes, and not when it is about to stop."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Literal

from docket import Worker as DocketWorker

from contracts.schema.errors import ServiceError
from contracts.state.store import ArtifactStore

LOOK_SECONDS = 5.0

log = logging.getLogger(__name__)


class Intake:
    """Several dockets' workers, which take jobs or do not. Jobs that are at hand go on, and their leases are renewed."""

    def __init__(self, workers: Sequence[DocketWorker], left: asyncio.Event | None = None) -> None:
        self._workers = {worker: worker.concurrency for worker in workers}
        self._ended = self._taking = False
        self.left = left or asyncio.Event()
        """Set when the dockets are to be left."""
        self._set(taking=False)

    @property
    def state(self) -> Literal["ready", "paused", "stopping"]:
        """Which of the three the worker is."""
        if self._ended:
            return "stopping"
        return "ready" if self._taking else "paused"

    def pause(self) -> None:
        """Take no jobs for a while."""
        self._set(taking=False)

    def resume(self) -> None:
        """Take jobs, unless that has ended."""
        self._set(taking=not self._ended)

    def end(self) -> None:
        """Take no jobs any more."""
        self._ended = True
        self._set(taking=False)

    def _set(self, *, taking: bool) -> None:
        self._taking = taking
        for worker, concurrency in self._workers.items():
            worker.concurrency = concurrency if taking else 0  # docket compares it anew before it takes a job


async def watch_store(store: ArtifactStore, intake: Intake) -> None:
    """Take jobs while the store takes writes: else every job would be computed in vain."""
    writable: bool | None = None
    while True:
        before = writable
        try:
            await store.probe()
            writable = True
        except ServiceError:
            writable = False
        if writable and not before:
            intake.resume()
            log.info("jobs are taken: the store takes writes")
        elif before is not False and not writable:
            intake.pause()
            log.error("no job is taken: the store takes no writes")
        await asyncio.sleep(LOOK_SECONDS)
