"""An attempt at a job: reports its start and its progress to the ledger, and reads cancellation requests from it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import RedisError

from contracts.schema.jobs import JobRecord, Progress, utc_now
from contracts.state.ledger import Ledger
from contracts.state.transitions import CancelRequested, LostJob, wanted
from worker.device import DeviceGate, Priority, turn
from worker.occupant import Occupant
from worker.timing import Timing

if TYPE_CHECKING:
    from concurrent.futures import Future

LOOK_SECONDS = 0.25  # how soon a cancellation is seen when there is no progress to report
REPORT_SECONDS = 0.03  # least time between two reports
REDIS_PAUSE_SECONDS = 1.0

T = TypeVar("T")
log = logging.getLogger(__name__)


class HandedBack(Exception):  # noqa: N818  # not an error: another worker will do the work
    """The worker stops; the job goes back to the queue."""


class Attempt:
    """One attempt at a job. The device's thread calls `begin`, `report`, `check` and `breathe`, the event loop the rest."""

    def __init__(self, record: JobRecord, ledger: Ledger, gate: DeviceGate, occupant: Occupant) -> None:
        self.record = record
        self.since = utc_now()
        """When it was claimed."""
        self._ledger = ledger
        self._gate = gate
        self._occupant = occupant
        self.timing = Timing(record)
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._started = False
        self._start_reported = False
        self._latest: Progress | None = None
        self._previews: dict[int, Progress] = {}  # the latest of each image
        self._shown: dict[int, str] = {}  # and the event of the one before
        self._outcome: Future[Any] | None = None
        self._reason: Exception | None = None
        self._over = asyncio.Event()
        self.keeps = False
        """Whether a canceled job has something to keep: its handler then reads `canceled`, and `check` does not raise."""

    @property
    def job_id(self) -> str:
        """The job."""
        return self.record.id

    @property
    def number(self) -> int:
        """Which attempt at the job this is, from 1."""
        return self.record.attempt

    @property
    def begun(self) -> bool:
        """Whether the device has begun the job."""
        return self._started

    @property
    def canceled(self) -> bool:
        """Whether the client canceled the job."""
        return isinstance(self._reason, CancelRequested)

    def begin(self) -> None:
        """Tell the ledger, without waiting for it, that the work has started; until then the job is queued."""
        self.timing.begin()
        self._started = True
        self._loop.call_soon_threadsafe(self._news.set)

    def report(self, progress: Progress) -> None:
        """Tell the ledger how far the work is, without waiting for it. Of several reports at once the latest counts.

        Of previews it is the latest of each image.
        """
        if progress.preview is not None:
            self._previews[progress.preview.image] = progress
        self._latest = progress.model_copy(update={"preview": None})
        self._loop.call_soon_threadsafe(self._news.set)

    def check(self) -> None:
        """Raise LostJob or HandedBack when the work is to stop."""
        if self._reason is not None and not (self.canceled and self.keeps):
            raise self._reason

    def breathe(self, beside: "Sequence[Attempt]" = ()) -> None:
        """Let more urgent work go before this attempt and those `beside` it. Raises LostJob or HandedBack when it is to stop."""
        self.check()
        with ExitStack() as stack:
            for each in (self, *beside):
                stack.enter_context(each.timing.interrupted())
            self._gate.breathe()

    def stop(self, reason: Exception) -> None:
        """Stop the work: at once if it waits for the device, else at its next `check`.

        The first reason counts, but a canceled job that keeps something can still be lost.
        """
        if self._reason is None or (self.canceled and type(reason) is LostJob):
            self._reason = reason
        if self._outcome is not None:
            self._outcome.cancel()

    async def on_device(self, priority: Priority, work: Callable[[], T]) -> T:
        """Do work on the device's thread when its turn comes, which starts the job. Raises LostJob or HandedBack."""
        self.check()

        def started() -> T:
            self.begin()
            with self._occupant.on_device(self.job_id, surely=self.number > 1), self.timing.measured("device"):
                return work()

        return await self.awaited(self._gate.submit(turn(self.record.priority, priority), started, self.record.tenant))

    async def awaited(self, outcome: "Future[T]") -> T:
        """Wait for what comes of work on the device, which `stop` cancels while it waits. Raises LostJob or HandedBack."""
        self._outcome = outcome
        self.check()
        try:
            return await asyncio.wrap_future(outcome)
        except asyncio.CancelledError:
            self.check()  # it was stopped while it waited
            # The docket dropped a job that was canceled while it was queued. Work that has just started has to stop as well.
            self.stop(LostJob(self.job_id))
            raise

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Exchange reports and cancellation requests with the ledger inside the `with`; its end sends the last report."""
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            self._over.set()
            self._news.set()
            await following
        self.check()

    async def _follow(self) -> None:
        """Exchange reports with the ledger until the end, or until the job is lost."""
        last = False
        while not last:
            await self._news_or_time()
            last = self._over.is_set()  # what is reported before the end is exchanged, even if the end comes during an exchange
            try:
                await self._exchange()
            except CancelRequested as request:
                self.stop(request)
            except LostJob as lost:
                self.stop(lost)
                return
            except RedisError:
                log.warning("job %s: progress cannot be reported", self.job_id, exc_info=True)
                await asyncio.sleep(REDIS_PAUSE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORT_SECONDS):
                    await self._over.wait()  # a short job does not wait for its next report

    async def _news_or_time(self) -> None:
        """Wait for something to report, but not long. That a job has begun is told while the device works on it."""
        if not self._over.is_set():
            waiting = asyncio.create_task(self._news.wait())
            await asyncio.wait([waiting], timeout=LOOK_SECONDS)
            waiting.cancel()
        self._news.clear()

    async def _exchange(self) -> None:
        """Report what is new, or check whether the work should continue. Raises LostJob, or its CancelRequested."""
        progress, self._latest = self._latest, None
        if progress is not None:
            await self._ledger.report(self.job_id, self.number, progress)  # starts the job, too
            self._start_reported = True
        elif self._started and not self._start_reported:
            await self._ledger.begin(self.job_id, self.number)
            self._start_reported = True
        elif not self._over.is_set():
            await self._look()
        while self._previews:
            image, shown = self._previews.popitem()
            before = self._shown.get(image)
            self._shown[image] = await self._ledger.show(self.job_id, self.number, shown, instead_of=before)

    async def _look(self) -> None:
        """Raise LostJob, or its CancelRequested, if this attempt should not continue the job."""
        record = await self._ledger.find(self.job_id)
        if record is None:
            raise LostJob(self.job_id)
        wanted(record, self.number)
