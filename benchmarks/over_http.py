"""What a client sees: the time of an answer, and the memory of the worker that gives it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2

from benchmarks.library import targets_pairs
from benchmarks.result import Result, Setup, median, percentile
from benchmarks.timing import in_turn
from launcher.processes import Running, inherited, running

MIB = 1 << 20
REQUESTS = 40
WARMING = 5
PROMPT = "a photograph of a sun and a house"
WORDS = (
    "sun", "house", "tree", "boat", "sky", "roof", "car", "flower", "moon", "star",
    "cat", "dog", "fish", "bird", "grass", "road", "cloud", "hill", "lake", "wheel",
)  # fmt: skip


@contextmanager
def live_service(setup: Setup, **more: str) -> Iterator[Running]:
    """Run Valkey, a gateway and a worker with the model, some settings and otherwise the defaults."""
    settings = {"OVAM_MODELS": json.dumps({"measured": str(setup.model)}), "OVAM_DEFAULT_MODEL": "measured", **more}
    if setup.threads:
        settings["OVAM_THREADS"] = str(setup.threads)
    with (
        TemporaryDirectory(prefix="ovam-bench-") as folder,
        running(inherited() | settings, data_dir=Path(folder)) as live,
    ):
        yield live


@contextmanager
def service(setup: Setup, **more: str) -> Iterator[tuple[httpx2.Client, int]]:
    """Run all that; a client, the worker's process id."""
    with live_service(setup, **more) as live, httpx2.Client(base_url=live.url, timeout=120) as client:
        yield client, worker_of(live)


def worker_of(live: Running) -> int:
    """The process id of the worker."""
    return next(child.process.pid for child in live.children if child.name == "worker")


def finished(client: httpx2.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask for a job and wait for it; its record."""
    answer = client.post(path, json=body, headers={"Prefer": "wait=60"})
    answer.raise_for_status()
    record = answer.json()
    while record["state"] in ("queued", "running"):  # it takes longer than a request may wait
        time.sleep(0.2)
        record = client.get(f"/v1/jobs/{record['id']}").json()
    if record["state"] != "succeeded":
        raise RuntimeError(f"{path}: {record['state']}, {record['error']}")
    return record


def generated(client: httpx2.Client, **settings: object) -> str:
    """The id of a job with one image."""
    return finished(client, "/v1/generate", {"prompt": PROMPT, "seed": 0, **settings})["id"]


def ask(client: httpx2.Client, job_id: str, number: int, targets: int = 1, **settings: object) -> float:
    """Seconds of one attribute request; the prompts change, so that no answer is one that was given before."""
    words = [WORDS[(number + place) % len(WORDS)] for place in range(targets)]
    article = ("a", "the")[number // len(WORDS) % 2]
    body = [{"label": word, "prompt": f"a photograph of {article} {word}", "word": word} for word in words]
    start = time.perf_counter()
    finished(client, "/v1/attribute", {"job_id": job_id, "targets": body, "settings": {"crf": None, **settings}})
    return time.perf_counter() - start


def attribute(setup: Setup) -> Result:
    """How long a client waits for a word's heatmap and mask, files written."""
    with service(setup) as (client, _):
        job_id = generated(client)
        for number in range(WARMING):
            ask(client, job_id, number)
        end = time.perf_counter() + setup.seconds
        samples = []
        for number in range(setup.times(REQUESTS)):
            if time.perf_counter() < end or not samples:
                samples.append(1000 * ask(client, job_id, number))
    return Result(
        name="attribute",
        says="POST /v1/attribute on a stored job, one target, no dCRF, until the finished job is answered: median",
        value=median(samples),
        unit="ms",
        goal=25.0,
        samples=samples,
        details={"p95_ms": percentile(samples, 0.95), "requests": len(samples), "before_those": WARMING},
    )


def targets(setup: Setup) -> Result:
    """What many targets, each of a prompt of its own, cost beside one."""
    with service(setup) as (client, _):
        job_id = generated(client)
        for number in range(WARMING):
            ask(client, job_id, number)
        counts = iter(range(10**9))  # of requests
        pairs = in_turn(
            lambda: ask(client, job_id, next(counts)),
            lambda: ask(client, job_id, next(counts), len(WORDS)),
            setup.times(REQUESTS),
            setup.seconds / 2,
        )
    library = targets_pairs(setup, WORDS)
    ratios = [many / one for one, many in pairs]
    return Result(
        name="targets",
        says=f"POST /v1/attribute with {len(WORDS)} targets of different prompts over one with a single target, no dCRF: "
        "median of pairs run in turn",
        value=median(ratios),
        unit="x",
        goal=1.7,
        samples=ratios,
        details={
            "one_ms": 1000 * median([one for one, _ in pairs]),
            "many_ms": 1000 * median([many for _, many in pairs]),
            "pairs": len(pairs),
            "library_ratio": median([many / one for one, many in library]),
            "library_one_ms": 1000 * median([one for one, _ in library]),
            "library_many_ms": 1000 * median([many for _, many in library]),
        },
    )


def worker_memory(setup: Setup) -> Result:
    """What the worker holds after it has generated and attributed."""
    with service(setup) as (client, worker):
        job_id = generated(client)
        for number in range(setup.times(10)):
            ask(client, job_id, number)
        now, most = memory(worker)
    return Result(
        name="worker_memory",
        says="resident memory of the worker after a generation and attributions",
        value=now / MIB,
        unit="MiB",
        goal=1.5e9 / MIB,
        samples=[now / MIB],
        details={"most_mib": most / MIB},
    )


def memory(pid: int) -> tuple[int, int]:
    """Resident bytes, now and at most so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {name: value for name, _, value in (line.partition(":") for line in lines)}
    now, most = (int(status[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))  # in kB there
    return now, most
