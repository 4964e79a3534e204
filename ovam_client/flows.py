"""What the client does, said once for both clients.

A flow is a generator that asks for steps (a call, a pause, a line of a stream) and is given their outcomes. `drivers.py` carries
them out, blocking or awaiting.
"""

import logging
import math
import random
import time
from asyncio import CancelledError
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any, Literal, TypeVar
from uuid import uuid4

import httpx2
from pydantic import BaseModel, ValidationError

from ovam_client.answers import Counts, DatasetRecord, JobRecord, Progress
from ovam_client.errors import (
    DatasetError,
    OvamServiceError,
    RefusedError,
    UnexpectedAnswerError,
    UnreachableError,
    WaitTimeoutError,
    failure_of,
    refusal,
    temporary,
)
from ovam_client.events import FINAL, Event, Events
from ovam_client.inputs import escaped

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between two tries
SILENCE = 45.0  # seconds without a line after which a stream counts as dead: the service sends a comment every 15
log = logging.getLogger("ovam_client")
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Call:
    """A step: send a request, get its answer with its body."""

    method: str
    path: str
    json: Any = None
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    """Whether it does no harm to send it again when nobody knows what came of it."""


@dataclass(frozen=True)
class Listen:
    """A step: open the stream of a job's events in place of the one before, get its answer, with its body if it is an error."""

    path: str
    headers: Mapping[str, str]
    silence: float
    """Seconds without a line that are an error."""


@dataclass(frozen=True)
class NextLine:
    """A step: get the next line of the stream; None at its end."""


@dataclass(frozen=True)
class Pause:
    """A step: wait."""

    seconds: float


@dataclass(frozen=True)
class Fetch:
    """A step: send a request, write the body of its answer into a file, get the answer; with its body if it is an error."""

    path: str
    params: Mapping[str, str | int | float]
    file: IO[bytes]


Step = Call | Listen | NextLine | Pause | Fetch
Flow = Generator[Step, Any, T]


@dataclass(frozen=True)
class Patience:
    """For how long a request is repeated that may succeed later, in seconds."""

    away: float = 30.0
    """While no service answers, or something that it needs is away."""
    busy: float = 300.0
    """While there is no room (429). A longer `Retry-After` is not waited for."""


@dataclass
class Tries:
    """The tries of one request: it ends with the error that would be waited for too long."""

    patience: Patience
    begun: float = field(default_factory=time.monotonic)
    count: int = 0

    def again(self, error: OvamServiceError) -> Pause:
        """The pause before the next try. Raises the error when patience has ended."""
        limit = self.patience.busy if error.status == 429 else self.patience.away
        said = error.retry_after
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self.count)
        pause = longest * random.uniform(0.5, 1) if said is None else said + random.uniform(0, 0.25)  # many clients: not at once
        if time.monotonic() + pause - self.begun > limit:
            raise error
        self.count += 1
        if self.count == 1:
            log.warning("%s: trying again for up to %.0f s", error, limit)
        return Pause(pause)

    def reset(self) -> None:
        """It works again."""
        self.begun, self.count = time.monotonic(), 0


def answered(call: Call, patience: Patience) -> Flow[httpx2.Response]:
    """Send a request until it is answered with success, as far as patience goes. Raises the error of the last answer."""
    tries, lost = Tries(patience), False
    while True:
        try:
            response: httpx2.Response = yield call
        except httpx2.TransportError as error:
            failure, lost = unreachable(error), True
            if not call.repeatable and not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
                raise failure from error  # it may have been carried out
            failure.__cause__ = error
        else:
            gone = lost and call.method == "DELETE" and response.status_code == 404  # by the try whose answer was lost
            if response.is_success or gone:
                return response
            failure = refusal(response)
            if not temporary(failure):
                raise failure
        yield tries.again(failure)


def unreachable(error: httpx2.TransportError) -> UnreachableError:
    """The error of a connection that did not work."""
    try:
        url = error.request.url
        where = f"{url.scheme}://{url.netloc.decode()}"
    except RuntimeError:  # the library's error without a request
        where = "the service"
    return UnreachableError(f"{where} does not answer ({error or type(error).__name__})")


def parsed(kind: type[M], call: Call, patience: Patience) -> Flow[M]:
    """The answer of a request as a model."""
    response = yield from answered(call, patience)
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        wrong = f"{response.url} answers with no {kind.__name__} that this client understands"
        raise UnexpectedAnswerError(f"{wrong}: {error.errors(include_input=False)[:1]}") from error


def submitted(
    operation: str, body: Mapping[str, Any], patience: Patience, *, wait: int = 0, key: str | None = None
) -> Flow[JobRecord]:
    """File a job, and wait some seconds for its end. An idempotency key makes it one job, however often it has to be sent."""
    headers = {"Idempotency-Key": key or uuid4().hex} | ({"Prefer": f"wait={wait}"} if wait else {})
    return (yield from parsed(JobRecord, Call("POST", f"/v1/{operation}", json=dict(body), headers=headers), patience))


def fetched(job_id: str, patience: Patience) -> Flow[JobRecord]:
    """A job's record."""
    return (yield from parsed(JobRecord, Call("GET", f"/v1/jobs/{escaped(job_id)}"), patience))


def canceled(job_id: str, patience: Patience) -> Flow[JobRecord]:
    """Cancel a job; one that has finished stays as it is."""
    try:
        return (yield from parsed(JobRecord, Call("POST", f"/v1/jobs/{job_id}/cancel"), patience))
    except RefusedError as error:
        if error.code != "job-finished":
            raise
        return (yield from fetched(job_id, patience))


def waited(
    record: JobRecord,
    patience: Patience,
    progress: Callable[[Progress], object] | None,
    timeout: float | None,
    *,
    cancel: bool,
) -> Flow[JobRecord]:
    """Follow a job to its end. Raises JobFailedError, JobCanceledError or JobExpiredError unless it succeeds."""

    def heard(event: Event) -> None:
        if progress is not None and event.progress is not None and event.state == "running":
            progress(event.progress)

    try:
        if str(record.state) not in FINAL:
            yield from followed(record.id, patience, heard, timeout)
            record = yield from fetched(record.id, patience)
    except (KeyboardInterrupt, CancelledError):
        if cancel:
            with suppress(OvamServiceError):  # the interruption matters more
                yield from canceled(record.id, Patience(away=2, busy=2))
        raise
    if record.state != "succeeded":
        raise failure_of(record)
    return record


def followed(
    job_id: str, patience: Patience, heard: Callable[[Event], object], timeout: float | None, *, kind: str = "job"
) -> Flow[None]:
    """Hear every event of a job (or data set) until the last one. A stream that breaks is opened again where it was."""
    tries, events = Tries(patience), Events()
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        try:
            outcome = yield from one_stream(f"/v1/{kind}s/{job_id}/events", events, heard, deadline, min(SILENCE, left), tries)
            failure: OvamServiceError = UnreachableError(f"the events of {kind} {job_id} ended before the {kind} did")
        except httpx2.TransportError as error:
            outcome, failure = "broken", unreachable(error)
            failure.__cause__ = error
        except (RefusedError, UnexpectedAnswerError) as error:
            if not temporary(error):
                raise
            outcome, failure = "broken", error
        if outcome == "ended":
            return
        if outcome == "broken" and time.monotonic() < deadline:
            yield tries.again(failure)
    raise WaitTimeoutError(f"{kind} {job_id} did not end within {timeout:g} s; it goes on")


def followed_dataset(
    record: DatasetRecord, patience: Patience, progress: Callable[[Counts], object] | None, timeout: float | None
) -> Flow[DatasetRecord]:
    """Follow a data set to its end. Raises DatasetError unless it succeeds."""

    def heard(event: Event) -> None:
        if progress is not None and event.counts is not None:
            progress(event.counts)

    if str(record.state) not in FINAL:
        yield from followed(record.id, patience, heard, timeout, kind="dataset")
        record = yield from parsed(DatasetRecord, Call("GET", f"/v1/datasets/{record.id}"), patience)
    if record.state != "succeeded":
        raise DatasetError(record)
    return record


def fetched_whole(fetch: Fetch, patience: Patience) -> Flow[None]:
    """Write the body of an answer into a file, from the start again if the connection breaks."""
    tries = Tries(patience)
    while True:
        fetch.file.seek(0)
        fetch.file.truncate()
        try:
            response: httpx2.Response = yield fetch
        except httpx2.TransportError as error:
            failure: OvamServiceError = unreachable(error)
            failure.__cause__ = error
        else:
            if response.is_success:
                fetch.file.flush()
                return
            failure = refusal(response)
            if not temporary(failure):
                raise failure
        yield tries.again(failure)


def one_stream(
    path: str, events: Events, heard: Callable[[Event], object], deadline: float, silence: float, tries: Tries
) -> Flow[Literal["ended", "broken", "due"]]:
    """Hear the events of one stream, and say why there are no more: the job ended, the stream broke, or the deadline is near."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": events.last} if events.last else {})
    response: httpx2.Response = yield Listen(path, headers, silence)
    if not response.is_success:
        raise refusal(response)
    events.begin()
    while (line := (yield NextLine())) is not None:
        event = events.feed(line)
        if event is not None:
            tries.reset()
            heard(event)
            if event.final:
                return "ended"
        left = deadline - time.monotonic()
        if left <= 0 or (line.startswith(":") and left < silence):  # a quiet stream is not watched longer than that
            return "due"
    return "broken"
