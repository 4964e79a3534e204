"""Micro-batches: generate jobs that wait for the device and differ in prompts and seeds alone are drawn in one call.

Each keeps its attempt, and has its own progress, images, trace and end. The first whose turn it is takes others along; when
their turn comes, there is nothing left to do.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Condition
from typing import Any, Final, TypeVar

from contracts.schema.images import GenerateJob
from contracts.state.transitions import LostJob
from worker.attempts import Attempt, HandedBack
from worker.device import DeviceGate, Priority, turn
from worker.occupant import Occupant
from worker.settings import WorkerSettings

SEVERAL: Final = "several jobs"  # on the device: whose fault it is if the worker dies is known once each is tried alone
OWN: Final = {"prompt": "", "negative_prompt": "", "seed": 0, "num_images": 1}
"""What jobs of one batch may have of their own."""
LOOK = 0.01  # seconds

log = logging.getLogger(__name__)


class Abandoned(Exception):  # noqa: N818  # not an error: all have left
    """Nobody wants the images of the running call."""


@dataclass(eq=False)
class Member:
    """A job that is drawn, by itself or with others: one attempt, which ends by itself."""

    attempt: Attempt
    job: GenerateJob
    outcome: "Future[Any]" = field(default_factory=Future)
    """What was drawn, or why nothing was."""

    @property
    def left(self) -> bool:
        """Whether nothing more is to be drawn for it."""
        return self.outcome.done()

    @property
    def sociable(self) -> bool:
        """Whether it may be drawn with others: not with targets, which may want other seeds, nor if a worker died with it."""
        return not self.job.targets and self.attempt.number == 1

    def suits(self, other: "Member") -> bool:
        """Whether both can be drawn in one call."""
        return (
            self.sociable
            and other.sociable
            and self.attempt.record.priority == other.attempt.record.priority
            and bool(self.job.negative_prompt) == bool(other.job.negative_prompt)
            and self.job.model_copy(update=OWN) == other.job.model_copy(update=OWN)
        )

    def leave(self, error: BaseException) -> None:
        """End without images; the others are not disturbed."""
        if not self.left:
            self.outcome.set_exception(error)


M = TypeVar("M", bound=Member)
Draw = Callable[[Sequence[M], int], dict[M, Any]]
"""Draws members, so many images at a time. Raises Abandoned, and what is wrong with all or with any of them."""


def breathe(members: Sequence[Member]) -> None:
    """Between two evaluations: who is to stop leaves, and more urgent work goes first. Raises Abandoned if nobody is left."""
    for member in members:
        try:
            member.attempt.check()
        except (LostJob, HandedBack) as reason:
            member.leave(reason)
    here = [member.attempt for member in members if not member.left]
    if not here:
        raise Abandoned
    here[0].breathe(beside=here[1:])


@dataclass(eq=False)
class Batches:
    """The generate jobs that wait for this worker's device. The event loop enlists them, the device's thread takes them."""

    gate: DeviceGate
    occupant: Occupant
    most: int
    """Jobs in a batch."""
    images: int
    """Images of one job that are drawn at a time."""
    window: float
    """Seconds that the first job waits for others."""
    _waiting: list[Member] = field(default_factory=list)
    _changed: Condition = field(default_factory=Condition)

    @classmethod
    def of(cls, settings: WorkerSettings, gate: DeviceGate, occupant: Occupant, *, on_cpu: bool) -> "Batches":
        """Return batches as a worker is set up."""
        most = settings.jobs_at_once(on_cpu=on_cpu)
        return cls(gate, occupant, most, settings.batch_images, settings.batch_window_seconds)

    async def draw(self, member: M, draw: Draw[M]) -> Any:  # noqa: ANN401  # what `draw` makes
        """Draw a job when its turn comes, perhaps with others, which the first of them does for all.

        Raises LostJob, HandedBack, and why there are no images.
        """
        with self._enlisted(member):
            at = turn(member.attempt.record.priority, Priority.GENERATE)
            ticket = self.gate.submit(at, partial(self._run, member, draw), member.attempt.record.tenant)
            ticket.add_done_callback(lambda ended: ended.cancelled() and member.outcome.cancel())
            try:
                return await member.attempt.awaited(member.outcome)
            finally:
                ticket.cancel()

    @contextmanager
    def _enlisted(self, member: Member) -> Iterator[None]:
        """Let a job be taken along inside the `with`."""
        with self._changed:
            self._waiting.append(member)
            self._changed.notify()
        try:
            yield
        finally:
            self._take([member])

    def _take(self, members: Sequence[Member]) -> None:
        with self._changed:
            self._waiting = [each for each in self._waiting if each not in members]

    def _run(self, first: Member, draw: Draw[Any]) -> None:
        """Draw a job with those that suit it, unless it has been drawn with another."""
        if first not in self._waiting:
            return
        self._await_others(first)
        members = [first, *self._others(first)]
        self._take(members)
        members = [member for member in members if member.outcome.set_running_or_notify_cancel()]
        try:
            self._draw(members, draw)
        except BaseException as error:
            for member in members:
                member.leave(error)
            raise

    def _await_others(self, first: Member) -> None:
        """Wait until the batch is full, but not long; more urgent work goes on meanwhile."""
        deadline = time.monotonic() + (self.window if first.sociable else 0)
        while time.monotonic() < deadline and not first.left and len(self._others(first)) < self.most - 1:
            with self._changed:
                self._changed.wait(LOOK)
            self.gate.breathe()

    def _others(self, first: Member) -> list[Member]:
        """Those that can be drawn with a job, in the order in which they came."""
        found: list[Member] = []
        images, most_images = first.job.num_images, max(self.images, self.most)
        for member in self._waiting:
            room = len(found) < self.most - 1 and images + member.job.num_images <= most_images
            if member is not first and room and not member.left and first.suits(member):
                found.append(member)
                images += member.job.num_images
        return found

    def _draw(self, members: Sequence[Member], draw: Draw[Any]) -> None:
        """Draw jobs together. If that fails, they are drawn in halves: what is wrong with one harms no other."""
        if not members or self._is_drawn(members, draw):
            return
        half = (len(members) + 1) // 2
        for some in (members[:half], members[half:]):
            self._draw([member for member in some if not member.left], draw)

    def _is_drawn(self, members: Sequence[Member], draw: Draw[Any]) -> bool:
        """Draw jobs together; whether all have ended."""
        several = len(members) > 1
        with ExitStack() as stack:
            surely = any(member.attempt.number > 1 for member in members)
            stack.enter_context(self.occupant.on_device(SEVERAL if several else members[0].attempt.job_id, surely=surely))
            for member in members:
                member.attempt.begin()
                stack.enter_context(member.attempt.timing.measured("device"))
            try:
                drawn = draw(members, sum(member.job.num_images for member in members) if several else self.images)
            except Abandoned:
                return True
            except Exception as error:
                if several:
                    log.exception("%d jobs that were drawn together are drawn in halves", len(members))
                    return False
                members[0].leave(error)
                return True
        for member, images in drawn.items():
            if not member.left:
                member.outcome.set_result(images)
        return True
