"""On which terms a job is taken: how urgent it is, and when it is canceled. They come in headers, since they change no result.

`Priority` would be the field of RFC 9218, which browsers send with every request; ours is `Job-Priority`.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Header

from contracts.schema.errors import Code, ServiceError
from contracts.schema.jobs import Priority, utc_now

DURATION = r"^(\d{1,3}d)?(\d{1,4}h)?(\d{1,5}m)?(\d{1,7}s?)?$"
LONGEST = timedelta(days=30)
UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1, "": 1}


@dataclass(frozen=True)
class Terms:
    """What a request says of its job beside the job itself."""

    priority: Priority | None
    cancel_after: timedelta | None

    def fields(self) -> dict[str, Any]:
        """The fields of the record that say so."""
        found: dict[str, Any] = {}
        if self.priority:
            found["priority"] = self.priority
        if self.cancel_after:
            found["deadline"] = utc_now() + self.cancel_after
        return found


def terms_of(
    priority: Annotated[
        Priority | None,
        Header(
            alias="Job-Priority",
            description="who goes first; by default `interactive` for attribute, probe and import jobs, `normal` for others",
        ),
    ] = None,
    cancel_after: Annotated[
        str | None,
        Header(
            alias="Cancel-After",
            pattern=DURATION,
            description="the job is canceled if it has not ended after this time: `90`, `90s`, `5m`, `1h30m`; at most 30 days",
        ),
    ] = None,
) -> Terms:
    """The terms of a request."""
    return Terms(priority, duration_of(cancel_after) if cancel_after else None)


def duration_of(text: str) -> timedelta:
    """A time as `1h30m` says it. ServiceError (invalid-argument) for none, and for more than 30 days."""
    parts = re.findall(r"(\d+)([dhms]?)", text)
    found = timedelta(seconds=sum(int(number) * UNITS[unit] for number, unit in parts))
    if not timedelta() < found <= LONGEST:
        detail = f"`Cancel-After` is {text!r}; allowed: more than 0 s and at most 30 d"
        raise ServiceError(Code.INVALID_ARGUMENT, detail, field="Cancel-After", value=text)
    return found


TermsOf = Annotated[Terms, Depends(terms_of)]
