"""Webhooks: whom to tell what of a job, and what is told."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from contracts.schema.fields import Schema

Event = Literal["running", "succeeded", "failed", "canceled"]
"""A state that a job comes into."""
FINAL: tuple[Event, ...] = ("succeeded", "failed", "canceled")


class Webhook(Schema):
    """Whom to tell of a job."""

    url: str
    events: list[Event] = Field(min_length=1)
    """Of which states."""


class Delivery(Schema):
    """Something to be told, until it was."""

    id: str
    """The receiver's `webhook-id`: the same at every try, so that it can tell a second one of the same event."""
    tenant: str
    job_id: str
    url: str
    body: str
    """JSON, the same at every try."""
    created_at: datetime
    tries: int = 0
    """That failed."""
    problem: str = ""
    """Why the last one did."""
