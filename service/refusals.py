"""Refusals whose answer says more than other problems do: how to authenticate, what is left of a limit, what a job would take."""

from collections.abc import Mapping, Sequence

from contracts.schema.errors import Code, FieldError, ServiceError
from contracts.schema.estimates import Estimate


class RefusalError(ServiceError):
    """A failure whose answer says something in headers of its own."""

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        headers: Mapping[str, str],
        field: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(code, detail, field=field, retry_after=retry_after)
        self.headers = headers


class JobTooLargeError(ServiceError):
    """A job that would take too much; `errors` name the fields that decide it."""

    def __init__(self, detail: str, errors: Sequence[FieldError], estimate: Estimate) -> None:
        super().__init__(Code.JOB_TOO_LARGE, detail)
        self.errors = errors
        self.estimate = estimate
