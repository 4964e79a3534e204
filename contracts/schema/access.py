"""API keys: whose requests they let in, what those may do, and how much."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from contracts.schema.fields import Name, Schema

Scope = Literal["generate", "read", "admin"]
"""`generate` submits jobs and changes things, `read` sees them, `admin` reads the numbers of the whole service."""
WhenFull = Literal["refuse", "collect"]


class Limits(Schema):
    """How much the requests of a key may take. What is null has no limit."""

    requests_per_second: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] | None = None
    """On average; as many may come at once."""
    queued: Annotated[int, Field(ge=1)] | None = None
    """Jobs of the tenant that may wait in a lane."""
    device_seconds_per_day: Annotated[int, Field(ge=1)] | None = None
    """How long the tenant's jobs may run in a day of UTC."""
    bytes_kept: Annotated[int, Field(ge=1)] | None = None
    """Size of the files that the tenant's jobs keep."""
    when_full: WhenFull = "refuse"
    """What happens when they keep so many bytes: further jobs are refused, or the files of those used longest ago are deleted."""


class KeyCard(Schema):
    """What is known of a key; the key itself is not."""

    name: Name
    tenant: Name
    """Whose jobs and tokens it sees and makes. Several keys may be of one tenant."""
    scopes: list[Scope] = Field(min_length=1)
    limits: Limits = Limits()
    created_at: datetime
    expires_at: datetime | None = None
    """Until when it is valid; null: until it is revoked."""
