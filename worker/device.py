"""The gate to the device: one thread does all tensor work, the most urgent first.

Long work breathes between two UNet evaluations or optimisation epochs: more urgent work that waits then runs at once,
on the same thread, inside the longer one. So an interactive job never waits for a whole generation, the device never
does two things at a time, and the event loop never blocks.
"""

import heapq
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from threading import Condition, Thread
from typing import Any, Self, TypeVar, get_args

from contracts.schema import jobs

T = TypeVar("T")


class Priority(IntEnum):
    """Which work goes first among jobs of one priority: the smaller number."""

    INTERACTIVE = 0
    OPTIMIZE = 1
    GENERATE = 2


STOP = -1  # more urgent than any work
SAVED = 8  # turns that a tenant which has used less of the device than others may take before theirs
PRIORITIES = get_args(jobs.Priority)  # of jobs, the most urgent first


def turn(job: jobs.Priority, work: Priority) -> int:
    """When a job's work has its turn: by the job's priority, then by how long such work takes."""
    return PRIORITIES.index(job) * len(Priority) + work


@dataclass(order=True)
class _Ticket:
    """Work that waits for the device."""

    priority: int
    turn: int
    number: int
    work: Callable[[], Any] = field(compare=False)
    outcome: "Future[Any]" = field(compare=False)

    def run(self) -> None:
        """Do the work, unless it was canceled while it waited."""
        if not self.outcome.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
        except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to whoever waits for the outcome
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(result)


class DeviceGate:
    """Runs work on one thread, the most urgent first."""

    def __init__(self) -> None:
        self._waiting: list[_Ticket] = []
        self._numbers = count()
        self._turn = 0
        self._last_turns: dict[str, int] = {}  # of the tenants that had work here of late
        self._changed = Condition()
        self._running: list[int] = []  # priorities of the works under way, innermost last; only the thread touches it

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Self]:
        """Yield a gate with its thread. At the end, work under way is finished and work that waits is canceled."""
        gate = cls()
        thread = Thread(target=gate._serve, name="device", daemon=True)
        thread.start()
        try:
            yield gate
        finally:
            gate.submit(STOP, lambda: None)
            thread.join()

    def breathe(self) -> None:
        """Do everything more urgent that waits. Only work under way may call this."""
        while ticket := self._next(more_urgent_than=self._running[-1]):
            self._do(ticket)

    def submit(self, priority: int, work: Callable[[], T], tenant: str = "") -> "Future[T]":
        """Put work in the queue; its outcome can be canceled until it starts.

        Among work of one priority, tenants take turns: a tenant's next work is one turn after its last (start-time fair
        queueing, each work of cost 1). One that asks for less than its part saves turns up, `SAVED` at most, so that it hardly
        waits beside one that asks for all it can get.
        """
        outcome: Future[T] = Future()
        with self._changed:
            soonest = self._turn - SAVED
            mine = self._last_turns[tenant] = max(soonest, self._last_turns.get(tenant, soonest - 1) + 1)
            heapq.heappush(self._waiting, _Ticket(priority, mine, next(self._numbers), work, outcome))
            self._changed.notify()
        return outcome

    def _pop(self) -> _Ticket:
        """The work whose turn it is. Only with the lock."""
        ticket = heapq.heappop(self._waiting)
        self._turn = max(self._turn, ticket.turn)
        if not self._waiting:
            self._last_turns = {name: turn for name, turn in self._last_turns.items() if turn >= self._turn - SAVED}
        return ticket

    def _next(self, *, more_urgent_than: int) -> _Ticket | None:
        """The most urgent work that waits, if it is urgent enough to interrupt; a stop never interrupts."""
        with self._changed:
            if self._waiting and STOP < self._waiting[0].priority < more_urgent_than:
                return self._pop()
        return None

    def _serve(self) -> None:
        """The thread: run what waits, until it is stopped."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                ticket = self._pop()
            if ticket.priority == STOP:
                break
            self._do(ticket)
            del ticket  # an idle gate holds on to nobody's tensors
        for ticket in self._waiting:
            ticket.outcome.cancel()

    def _do(self, ticket: _Ticket) -> None:
        self._running.append(ticket.priority)
        try:
            ticket.run()
        finally:
            self._running.pop()
