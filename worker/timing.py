"""Where the time of an attempt goes: until its turn on the device, then loading a model, on the device, in the artifact store.

The same phases are measured for histograms and traced as spans, children of the request that filed the job.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, set_span_in_context

from contracts.schema.errors import Failure
from contracts.schema.jobs import JobRecord
from contracts.tracing import context_of

Phase = Literal["load", "device", "store"]
PHASES: tuple[Phase, ...] = ("load", "device", "store")
NANOSECONDS = 10**9

tracer = trace.get_tracer(__name__)


class Stopwatch:
    """Seconds during which something was under way; what overlaps counts once. One thread at a time uses it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._running = 0
        self._since = 0.0

    def start(self) -> None:
        """Count from now on."""
        if not self._running:
            self._since = time.perf_counter()
        self._running += 1

    def stop(self) -> None:
        """Undo a `start`."""
        self._running -= 1
        if not self._running:
            self.seconds += time.perf_counter() - self._since


class Timing:
    """The phases of one attempt."""

    def __init__(self, record: JobRecord) -> None:
        self.watches = {phase: Stopwatch() for phase in PHASES}
        self.waited: float | None = None
        """Seconds between the filing of the job and its turn; None before that."""
        self._filed_at = record.created_at.timestamp()
        self._span: Span = trace.INVALID_SPAN

    @contextmanager
    def of_attempt(self, record: JobRecord) -> Iterator[None]:
        """Trace an attempt inside the `with`, and let `phase` know that it is under way."""
        queued = trace.get_current_span().get_span_context()  # docket's own span, in a trace of its own
        facts = {"ovam.job.id": record.id, "ovam.job.kind": record.kind, "ovam.job.attempt": record.attempt}
        links = [Link(queued)] if queued.is_valid else []
        parent = context_of(record.traceparent)
        token = CURRENT.set(self)
        try:
            with tracer.start_as_current_span(
                f"job {record.kind}", parent, SpanKind.CONSUMER, facts, links, record_exception=False
            ) as self._span:
                yield
        finally:
            CURRENT.reset(token)

    def begin(self) -> None:
        """The attempt's turn has come; only the first time counts."""
        if self.waited is None:
            now = time.time()
            self.waited = max(0.0, now - self._filed_at)  # clocks of two hosts differ
            wait = tracer.start_span("wait", set_span_in_context(self._span), start_time=int(self._filed_at * NANOSECONDS))
            wait.end(int(now * NANOSECONDS))

    def failed(self, failure: Failure) -> None:
        """Say in the trace why the job failed."""
        self._span.set_attribute("error.type", str(failure.code))
        self._span.set_status(Status(StatusCode.ERROR, failure.detail))

    @contextmanager
    def measured(self, phase: Phase) -> Iterator[None]:
        """Count the time inside the `with` as a phase, and trace it; from whatever thread."""
        with tracer.start_as_current_span(phase, set_span_in_context(self._span)):
            self.watches[phase].start()
            try:
                yield
            finally:
                self.watches[phase].stop()

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """Do not count the time inside the `with` as time on the device: another attempt has it."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.watches["device"].seconds -= time.perf_counter() - begun


CURRENT: ContextVar[Timing | None] = ContextVar("timing", default=None)


@contextmanager
def phase(name: Phase) -> Iterator[None]:
    """Count the time inside the `with` as a phase of the attempt under way, if there is one."""
    timing = CURRENT.get()
    if timing is None:
        yield
        return
    with timing.measured(name):
        yield
