"""An attempt at a job: progress goes out to the ledger, and the wish to stop comes in from it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import RedisError

from contracts.jobs import JobRecord, Progress
from contracts.ledger import CancelRequested, Ledger, LostJob, wanted
from worker.gpu import GpuGate, Priority

if TYPE_CHECKING:
    from concurrent.futures import Future

    from contracts.registry import NewToken

LOOK_SECONDS = 0.25  # how soon a cancel is seen when there is no progress to report
REPORT_SECONDS = 0.03  # least time between two reports
REDIS_PAUSE_SECONDS = 1.0

T = TypeVar("T")
log = logging.getLogger(__name__)


class HandedBack(Exception):  # noqa: N818  # not an error: another worker will do the work
    """The worker stops; the job goes back to the queue."""


class Attempt:
    """One attempt at a job. `report`, `check` and `breathe` are for the device's thread, the rest for the event loop."""

    def __init__(self, record: JobRecord, ledger: Ledger, gate: GpuGate) -> None:
        self.record = record
        self._ledger = ledger
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._latest: Progress | None = None
        self._outcome: Future[Any] | None = None
        self._reason: Exception | None = None
        self._ending = False
        self.keeps = False
        """Whether there is something worth keeping: a cancel is then seen in `canceled`, and stops nothing by itself."""
        self.tokens: list[NewToken] = []
        """What is entered in the registry when the attempt ends well; their files are in the store."""

    @property
    def job_id(self) -> str:
        """The job."""
        return self.record.id

    @property
    def number(self) -> int:
        """Which attempt at the job this is, from 1."""
        return self.record.attempt

    @property
    def canceled(self) -> bool:
        """Whether the job's client wants it to stop."""
        return isinstance(self._reason, CancelRequested)

    def report(self, progress: Progress) -> None:
        """Say how far the work is, without waiting: of several reports at once the latest wins."""
        self._latest = progress
        self._loop.call_soon_threadsafe(self._news.set)

    def check(self) -> None:
        """Raise LostJob or HandedBack when the work is to stop."""
        if self._reason is not None and not (self.canceled and self.keeps):
            raise self._reason

    def breathe(self) -> None:
        """Let more urgent work go first, and stop if the work is no longer wanted."""
        self.check()
        self._gate.breathe()

    def stop(self, reason: Exception) -> None:
        """Stop the work: at once if it waits for the device, else at its next `check`.

        The first reason counts. But work that was canceled may still be at what it keeps, and that can be lost as well.
        """
        if self._reason is None or (self.canceled and type(reason) is LostJob):
            self._reason = reason
        if self._outcome is not None:
            self._outcome.cancel()

    async def on_device(self, priority: Priority, work: Callable[[], T]) -> T:
        """Do work on the device's thread when its turn comes; LostJob or HandedBack when it was stopped."""
        self.check()
        outcome = self._outcome = self._gate.submit(priority, work)
        try:
            return await asyncio.wrap_future(outcome)
        except asyncio.CancelledError:
            self.check()  # it was stopped while it waited
            raise

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Keep the ledger informed inside the `with`, and listen to it; the last progress is reported too."""
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            self._ending = True
            self._news.set()
            await following
        self.check()

    async def _follow(self) -> None:
        """Exchange news with the ledger until the end, or until the job is lost."""
        while not self._ending:
            await self._news_or_time()
            progress, self._latest = self._latest, None
            try:
                if progress is not None:
                    await self._ledger.report(self.job_id, self.number, progress)
                elif not self._ending:
                    await self._look()
            except CancelRequested as wish:
                self.stop(wish)
            except LostJob as lost:
                self.stop(lost)
                return
            except RedisError:
                log.warning("job %s: progress cannot be reported", self.job_id, exc_info=True)
                await asyncio.sleep(REDIS_PAUSE_SECONDS)

    async def _news_or_time(self) -> None:
        """Wait for progress, but not long."""
        if not self._ending:
            await asyncio.sleep(REPORT_SECONDS)
            waiting = asyncio.create_task(self._news.wait())
            await asyncio.wait([waiting], timeout=LOOK_SECONDS)
            waiting.cancel()
        self._news.clear()

    async def _look(self) -> None:
        """LostJob, or its CancelRequested, if the job is no longer this attempt's to do."""
        record = await self._ledger.find(self.job_id)
        if record is None:
            raise LostJob(self.job_id)
        wanted(record, self.number)
