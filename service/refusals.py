"""Refusals of a client whose answer says more than a problem can hold: how to authenticate, what is left of a limit."""

from collections.abc import Mapping

from contracts.schema.errors import Code, ServiceError


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
