"""`ovam top`: lanes, jobs and workers at a glance, from the numbers that a gateway exports at /metrics."""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta

import httpx2
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ovam_client.drivers import KEY

ANSWERS_WITHIN = 5.0  # seconds
GLANCE_SECONDS = 1.0  # between the two looks whose difference is a rate, when there is but one table
MINUTE = 60.0
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class UnreachableError(Exception):
    """The gateway does not answer, or what answers is none; the message says where, and why."""


@dataclass(frozen=True)
class Lane:
    """A queue of its own."""

    name: str
    waiting: int
    oldest_seconds: float


@dataclass(frozen=True)
class Jobs:
    """Jobs of a kind, ever; and how many ended in the last minute, at the rate since the look before."""

    kind: str
    submitted: int
    succeeded: int
    failed: int
    canceled: int
    ended_per_minute: float | None = None


@dataclass(frozen=True)
class Worker:
    """A worker that is alive."""

    name: str
    device: str
    jobs: int
    memory_bytes: Mapping[str, int]
    trace_cache_bytes: int


@dataclass(frozen=True)
class Look:
    """Everything at one moment."""

    redis_up: bool
    store_up: bool
    store_bytes: int | None
    lanes: list[Lane]
    jobs: list[Jobs]
    workers: list[Worker]


Samples = Mapping[str, Mapping[tuple[str, ...], float]]
"""Values by the name of a metric, then by the values of its labels in the order of the labels' names."""


def watch(url: str, key: str = "", *, every: float, once: bool, as_json: bool, console: Console) -> None:
    """Show what happens until Ctrl-C, or `once`. UnreachableError when the gateway does not answer at first."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx2.Client(base_url=url, headers=headers, timeout=ANSWERS_WITHIN) as http:
        looks = looking(http, GLANCE_SECONDS if once else every)
        first = next(looks)
        if once:
            show(next(looks), console, as_json=as_json)
        elif as_json:
            for look in looks:
                show(look, console, as_json=True)
        else:
            with Live(tables(first), console=console, screen=True, auto_refresh=False) as live:
                for look in looks:
                    live.update(tables(look), refresh=True)


def show(look: Look, console: Console, *, as_json: bool) -> None:
    """Print a look: tables, or one line of JSON."""
    if as_json:
        console.print(json.dumps(asdict(look)), soft_wrap=True, markup=False, highlight=False)
    else:
        console.print(tables(look))


def looking(http: httpx2.Client, every: float) -> Iterator[Look]:
    """Look again and again, the first time without rates."""
    before, at = None, 0.0
    while True:
        now = time.monotonic()
        samples = fetched(http)
        yield look_of(samples, before, now - at)
        before, at = samples, now
        time.sleep(every)


def fetched(http: httpx2.Client) -> Samples:
    """What the gateway exports now."""
    where = f"{http.base_url}".rstrip("/") + "/metrics"
    try:
        answer = http.get("/metrics")
        if answer.status_code in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
            raise UnreachableError(f"{where}: {answer.json()['detail']}; put a key with the scope admin into {KEY}")
        answer.raise_for_status()
        found: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                found[sample.name][tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    except (httpx2.HTTPError, ValueError) as error:
        raise UnreachableError(f"no gateway answers at {where}: {error}. Is it running? --url says where else it is") from error
    if "ovam_redis_up" not in found:
        raise UnreachableError(f"{where} is not that of a gateway")
    return found


def look_of(now: Samples, before: Samples | None, seconds: float) -> Look:
    """Put numbers in order; `before` are those of `seconds` ago."""
    return Look(
        redis_up=bool(one(now, "ovam_redis_up")),
        store_up=bool(one(now, "ovam_store_up")),
        store_bytes=None if (size := one(now, "ovam_store_bytes")) is None else int(size),
        lanes=[
            Lane(name, int(waiting), round(now["ovam_queue_oldest_seconds"][name,], 1))
            for (name,), waiting in now.get("ovam_queue_depth", {}).items()
        ],
        jobs=[*jobs_of(now, before, seconds)],
        workers=[*workers_of(now)],
    )


def jobs_of(now: Samples, before: Samples | None, seconds: float) -> Iterator[Jobs]:
    """Jobs of each kind that there ever was."""
    counts = now.get("ovam_jobs_total", {})
    for kind in sorted({kind for (kind, _), count in counts.items() if count}):
        states = {state: int(counts.get((kind, state), 0)) for state in ("submitted", "succeeded", "failed", "canceled")}
        rate = None
        if before is not None:
            rate = round((ended(counts, kind) - ended(before.get("ovam_jobs_total", {}), kind)) * MINUTE / seconds, 1)
        yield Jobs(kind, **states, ended_per_minute=rate)


def ended(counts: Mapping[tuple[str, ...], float], kind: str) -> float:
    """How many jobs of a kind have ended, however they did."""
    return sum(count for (each, state), count in counts.items() if each == kind and state != "submitted")


def workers_of(now: Samples) -> Iterator[Worker]:
    """The workers that are alive."""
    memory: dict[str, dict[str, int]] = defaultdict(dict)
    for (kind, name), used in now.get("ovam_worker_memory_bytes", {}).items():
        memory[name][kind] = int(used)
    for device, name in now.get("ovam_worker_info", {}):
        jobs, cache = now["ovam_worker_jobs"][name,], now["ovam_worker_trace_cache_bytes"][name,]
        yield Worker(name, device, int(jobs), memory[name], int(cache))


def one(samples: Samples, name: str) -> float | None:
    """The value of a metric without labels, if it is there."""
    return samples.get(name, {}).get(())


def tables(look: Look) -> Group:
    """What is drawn."""
    state = Text.assemble(
        *mark("Redis", look.redis_up),
        *mark("store", look.store_up),
        "" if look.store_bytes is None else f"{sized(look.store_bytes)} kept",
    )
    lanes = table("lane", "waiting", "oldest")
    for lane in look.lanes:
        lanes.add_row(lane.name, str(lane.waiting), lasting(lane.oldest_seconds))
    jobs = table("jobs", "submitted", "succeeded", "failed", "canceled", "ended/min")
    for each in look.jobs:
        rate = "" if each.ended_per_minute is None else f"{each.ended_per_minute:.1f}"
        jobs.add_row(each.kind, *map(str, (each.submitted, each.succeeded, each.failed, each.canceled)), rate)
    workers = table("worker", "device", "jobs", "memory", "traces")
    for worker in look.workers:
        used = ", ".join(f"{sized(used)} {kind}" for kind, used in worker.memory_bytes.items())
        workers.add_row(worker.name, worker.device, str(worker.jobs), used, sized(worker.trace_cache_bytes))
    return Group(state, lanes, jobs, workers if look.workers else Text("no worker is alive", "bold red"))


def mark(name: str, up: bool) -> Iterable[str | tuple[str, str]]:  # noqa: FBT001  # reads well where it is called
    """Say whether something answers."""
    return (f"{name} ", ("up", "green") if up else ("DOWN", "bold red"), "   ")


def table(first: str, *others: str) -> Table:
    """An empty table, numbers on the right."""
    made = Table(first, box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for name in others:
        made.add_column(name, justify="left" if name in ("device", "memory") else "right")
    return made


def sized(count: float) -> str:
    """Bytes as people read them.

    >>> sized(1536)
    '1.5 KiB'
    """
    for unit in UNITS[:-1]:
        if count < 1024:  # noqa: PLR2004  # what a KiB is
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {UNITS[-1]}"


def lasting(seconds: float) -> str:
    """A time as people read it.

    >>> lasting(75)
    '0:01:15'
    """
    return str(timedelta(seconds=round(seconds)))
