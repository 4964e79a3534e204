"""On which terms a job is taken: how urgent it is, when it is canceled, whom to tell.

They come in headers, since they change no result.

`Priority` would be the field of RFC 9218, which browsers send with every request; ours is `Job-Priority`.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Header, Request

from contracts.schema.errors import Code, ServiceError
from contracts.schema.jobs import Priority, utc_now
from contracts.schema.webhooks import FINAL, Webhook
from service.webhooks.targets import LONGEST as LONGEST_URL
from service.webhooks.targets import check_url

DURATION = r"^(\d{1,3}d)?(\d{1,4}h)?(\d{1,5}m)?(\d{1,7}s?)?$"
EVENT = "(running|succeeded|failed|canceled)"
EVENTS = rf"^ *{EVENT}( *, *{EVENT}){{0,7}} *$"
LONGEST = timedelta(days=30)
UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1, "": 1}


@dataclass(frozen=True)
class Terms:
    """What a request says of its job beside the job itself."""

    priority: Priority | None
    cancel_after: timedelta | None
    webhook: Webhook | None

    def fields(self) -> dict[str, Any]:
        """The fields of the record that say so."""
        found: dict[str, Any] = {}
        if self.priority:
            found["priority"] = self.priority
        if self.cancel_after:
            found["deadline"] = utc_now() + self.cancel_after
        if self.webhook:
            found["webhook"] = self.webhook
        return found


async def terms_of(
    http: Request,
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
    webhook: Annotated[
        str | None,
        Header(alias="Webhook", max_length=LONGEST_URL, description="the URL that is told when the job comes into a state"),
    ] = None,
    events: Annotated[
        str | None,
        Header(
            alias="Webhook-Events",
            pattern=EVENTS,
            description="which: `running`, `succeeded`, `failed`, `canceled`, separated by commas; the final ones without it",
        ),
    ] = None,
) -> Terms:
    """The terms of a request."""
    return Terms(
        priority,
        duration_of(cancel_after) if cancel_after else None,
        None if webhook is None else webhook_of(webhook, events, http.state.resources.settings.webhooks),
    )


def webhook_of(url: str, events: str | None, allowed: str) -> Webhook:
    """Whom to tell of what. ServiceError (invalid-argument) where a webhook may not go."""
    if allowed == "none":
        raise ServiceError(
            Code.INVALID_ARGUMENT, "this service sends no webhooks (OVAM_WEBHOOKS)", field="Webhook", value=url[:100]
        )
    chosen = [each.strip() for each in events.split(",")] if events else FINAL
    return Webhook.model_validate({"url": check_url(url, private=allowed == "any"), "events": list(dict.fromkeys(chosen))})


def duration_of(text: str) -> timedelta:
    """A time as `1h30m` says it. ServiceError (invalid-argument) for none, and for more than 30 days."""
    parts = re.findall(r"(\d+)([dhms]?)", text)
    found = timedelta(seconds=sum(int(number) * UNITS[unit] for number, unit in parts))
    if not timedelta() < found <= LONGEST:
        detail = f"`Cancel-After` is {text!r}; allowed: more than 0 s and at most 30 d"
        raise ServiceError(Code.INVALID_ARGUMENT, detail, field="Cancel-After", value=text)
    return found


TermsOf = Annotated[Terms, Depends(terms_of)]
