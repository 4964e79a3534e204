"""`ovam workers`: which workers are alive, and what each is doing, as they say themselves."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group
from rich.table import Table
from rich.text import Text

from contracts.schema.workers import Heartbeat
from launcher.top import lasting, sized

STYLES = {"ready": "green", "paused": "bold red", "stopping": "yellow"}


def table_of(beats: Sequence[Heartbeat], now: datetime) -> Group:
    """Draw a row for each worker, with a line for each job that it has claimed."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for name in ("worker", "host", "models", "device", "memory", "state", "for", "jobs"):
        table.add_column(name, overflow="fold")
    for beat in beats:
        since = "" if beat.since is None else lasting((now - beat.since).total_seconds())
        state = Text(beat.state, STYLES[beat.state])
        table.add_row(
            beat.name, beat.host, ", ".join(beat.models), beat.device, memory_of(beat), state, since, jobs_of(beat, now)
        )
    return Group(table if beats else Text("no worker is alive", "bold red"))


def memory_of(beat: Heartbeat) -> str:
    """What of each memory a worker uses."""
    return "\n".join(
        f"{kind} {sized(each.used)}" + (f" of {sized(each.total)}" if each.total else "") for kind, each in beat.memory.items()
    )


def jobs_of(beat: Heartbeat, now: datetime) -> str:
    """What a worker has claimed, and for how long."""
    return "\n".join(
        f"{job.kind} {job.id} {'on the device' if job.on_device else 'waits'} {lasting((now - job.since).total_seconds())}"
        for job in beat.jobs
    )
