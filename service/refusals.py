"""Refusals whose answer says more than other problems do: how to authenticate, what is left of a limit, what a job would take."""

from collections.abc import Mapping, Sequence

from contracts.schema.errors import Code, FieldError, ServiceError
from contracts.schema.estimates import Estimate

SHOWN = 5  # lines that the sentence tells of


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


class InvalidLinesError(ServiceError):
    """Several lines of a request that are wrong, each with a code of its own; `errors` name them."""

    def __init__(self, found: Sequence[tuple[Code, FieldError]], *, more: bool) -> None:
        codes = {code for code, _ in found}
        sentences = [error.detail for _, error in found[:SHOWN]]
        if more or len(found) > len(sentences):
            sentences.append("and more")
        super().__init__(codes.pop() if len(codes) == 1 else Code.INVALID_REQUEST, "; ".join(sentences))
        self.errors = [error for _, error in found]
