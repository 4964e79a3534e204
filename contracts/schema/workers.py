"""What a worker publishes of itself every few seconds."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Newer(BaseModel):
    """Base of what workers of a newer version may say more of than is known here."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Memory(Newer):
    """Bytes of a memory, that of the host or of the device."""

    used: int
    """By the worker."""
    total: int | None = None


class HeldJob(Newer):
    """A job that a worker has claimed."""

    id: str
    kind: str
    attempt: int
    since: datetime
    """When it was claimed."""
    on_device: bool = False
    """Whether the device has begun it; else it waits for its turn, or for the store."""


class Heartbeat(Newer):
    """A worker that is alive."""

    name: str
    host: str = ""
    device: str = ""
    models: list[str] = []
    since: datetime | None = None
    """When it began to take jobs."""
    state: Literal["ready", "paused", "stopping"] = "ready"
    """Paused: its store takes no writes, so it takes no jobs."""
    jobs: list[HeldJob] = []
    memory: dict[Literal["host", "device"], Memory] = {}
    trace_cache_bytes: int = 0
