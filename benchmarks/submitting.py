"""How fast jobs are filed, beside a bare FastAPI route that takes the same body and writes to Redis once."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from benchmarks.over_http import PROMPT, live_service, worker_of
from benchmarks.result import Result, Setup, median, percentile
from launcher.children import child
from launcher.processes import Running, available, inherited

IN_A_ROW = 50  # submissions to one side before the other's turn
ROUNDS = 20
READY_WITHIN = 60.0  # seconds
LEAST_SHARE, MOST_TAIL = 0.6, 3.0


def submitting(setup: Setup) -> Iterator[Result]:
    """Submissions of one client, while nobody takes the jobs, in turn with the bare route."""
    pairs = []
    with (
        live_service(setup, OVAM_MAX_QUEUED="1000000") as live,
        stopped(worker_of(live)),
        bare_route(live) as bare,
        httpx2.Client(base_url=live.url, timeout=60) as ours,
    ):
        end = time.perf_counter() + setup.seconds
        for turn in range(-1, setup.times(ROUNDS)):
            if turn > 0 and time.perf_counter() > end:
                break
            pair = submissions(ours), submissions(bare)
            pairs += [pair] if turn >= 0 else []
    shares = [sum(theirs) / sum(own) for own, theirs in pairs]
    own, theirs = ([1000 * each for one in side for each in one] for side in zip(*pairs, strict=True))
    yield Result(
        name="submit",
        says="submissions a second of one client, over those of a bare FastAPI route with one Redis write: median of turns",
        value=median(shares),
        unit="x",
        least=LEAST_SHARE,
        samples=shares,
        details={"rate": 1000 / median(own), "p50_ms": median(own), "p50_bare_ms": median(theirs)},
    )
    slowest, of_bare = percentile(own, 0.99), percentile(theirs, 0.99)
    yield Result(
        name="submit_p99",
        says="99th percentile of a submission, over that of the bare route",
        value=slowest / of_bare,
        unit="x",
        goal=MOST_TAIL,
        samples=[slowest / of_bare],
        details={"p99_ms": slowest, "p99_bare_ms": of_bare, "submissions": len(own)},
    )


def submissions(client: httpx2.Client) -> list[float]:
    """Seconds of each of some submissions, one after the other."""
    times = []
    for _ in range(IN_A_ROW):
        start = time.perf_counter()
        client.post("/v1/generate", json={"prompt": PROMPT}).raise_for_status()
        times.append(time.perf_counter() - start)
    return times


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Hold a process inside the `with`: the worker takes no jobs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def bare_route(live: Running) -> Iterator[httpx2.Client]:
    """Run the bare route; a client of it."""
    port = available("127.0.0.1", 0)
    command = [sys.executable, "-m", "benchmarks.bare", str(port), live.redis_url]
    with child("bare", command, inherited(), live.logs), httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        end = time.monotonic() + READY_WITHIN
        while True:
            try:
                client.get("/")
                break
            except httpx2.HTTPError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        yield client
