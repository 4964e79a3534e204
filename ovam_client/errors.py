"""Everything that can go wrong, as one tree. Branch on the class, or on `code`, which is the service's own and never changes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
from pydantic import ValidationError

from ovam_client.answers import Code, DatasetRecord, FieldError, JobRecord, Problem


class OvamServiceError(Exception):
    """Base of every error that this client raises on purpose."""

    code: str = "client-error"
    status: int | None = None
    """Of the HTTP answer, if there was one."""
    retry_after: float | None = None
    """Seconds, if the answer says when to try again."""


class UnreachableError(OvamServiceError):
    """No service answers at the address, or the connection was lost; `__cause__` is the HTTP library's error."""

    code = "unreachable"


class UnexpectedAnswerError(OvamServiceError):
    """Something answers that is not this service: a proxy, another server, or a service of another version."""

    code = "unexpected-answer"

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class WaitTimeoutError(OvamServiceError, TimeoutError):
    """A job did not end within the time that was waited for; it goes on."""

    code = "wait-timeout"


class RefusedError(OvamServiceError):
    """The service refused a request. `code` says why, `errors` which fields are at fault."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.code = str(problem.code)
        self.status = problem.status
        self.detail = problem.detail
        self.errors: Sequence[FieldError] = problem.errors
        self.retry_after = retry_after


class InvalidRequestError(RefusedError):
    """The request is not valid, or does not suit what it names (400, 413, 415, 422)."""


class AccessError(RefusedError):
    """The API key is missing or not valid (401), or does not allow this (403)."""


class NotFoundError(RefusedError):
    """What the request names is not there, or not any more (404, 410)."""


class ConflictError(RefusedError):
    """Things are not in a state for this: a job has finished or has not, a name is in use (409)."""


class BusyError(RefusedError):
    """There is no room now, or a limit of the API key is reached (429)."""


class UnavailableError(RefusedError):
    """The service, or something that it needs, does not work now (408, 5xx)."""


class JobError(OvamServiceError):
    """A job ended without success; `record` holds it."""

    def __init__(self, record: JobRecord) -> None:
        super().__init__(f"{record.kind} job {record.id} {record.state}{f': {record.error.detail}' if record.error else ''}")
        self.record = record
        self.code = str(record.error.code) if record.error else f"job-{record.state}"


class DatasetError(OvamServiceError):
    """A data set ended without success: it failed, or was canceled."""

    def __init__(self, record: DatasetRecord) -> None:
        why = record.error.detail if record.error else "a client stopped it"
        super().__init__(f"data set {record.id} is {record.state}: {why}")
        self.record = record
        self.code = str(record.error.code) if record.error else f"dataset-{record.state}"


class JobFailedError(JobError):
    """The job failed; `code` says why."""


class JobCanceledError(JobError):
    """The job was canceled. One that learned has a `record.result` if it kept its best token."""


class JobExpiredError(JobError):
    """The job's files and its result are gone."""


KINDS: Mapping[int, type[RefusedError]] = {
    400: InvalidRequestError,
    401: AccessError,
    403: AccessError,
    404: NotFoundError,
    408: UnavailableError,
    409: ConflictError,
    410: NotFoundError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    429: BusyError,
}
ENDS: Mapping[str, type[JobError]] = {"failed": JobFailedError, "canceled": JobCanceledError, "expired": JobExpiredError}
TEMPORARY = frozenset(
    {
        Code.RATE_LIMITED,
        Code.QUEUE_LIMIT_REACHED,
        Code.DEVICE_LIMIT_REACHED,
        Code.QUEUE_FULL,
        Code.GATEWAY_BUSY,
        Code.NO_WORKER,
        Code.REDIS_UNAVAILABLE,
        Code.STORE_UNAVAILABLE,
        Code.IDEMPOTENCY_KEY_IN_FLIGHT,
        Code.BODY_TOO_SLOW,
    }
)
FROM_A_PROXY = frozenset({429, 502, 503, 504})  # worth another try, whoever says so


def refusal(response: httpx2.Response) -> OvamServiceError:
    """The error of an answer that is none of success; its body has been read."""
    retry_after = seconds_of(response.headers.get("retry-after"))
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        elsewhere = f", which points to {response.headers['location']}" if "location" in response.headers else ""
        said = f"{response.url} answers {response.status_code}{elsewhere}: {response.text[:200]!r}"
        return UnexpectedAnswerError(f"{said}; is this the address of an OVAM service?", response.status_code, retry_after)
    default = UnavailableError if problem.status >= 500 else RefusedError
    return KINDS.get(problem.status, default)(problem, retry_after)


def temporary(error: OvamServiceError) -> bool:
    """Whether the same request may succeed later."""
    return error.code in TEMPORARY or (isinstance(error, UnexpectedAnswerError) and error.status in FROM_A_PROXY)


def seconds_of(header: str | None) -> float | None:
    """The seconds that a `Retry-After` names, as a number or as a date; None if it makes no sense."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def failure_of(record: JobRecord) -> JobError:
    """The error of a job that ended without success."""
    return ENDS.get(str(record.state), JobError)(record)
