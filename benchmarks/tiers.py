"""What a client waits for an answer from each tier of a trace, with a dCRF, and while the worker is busy with generations."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import httpx2

from benchmarks.over_http import PROMPT, REQUESTS, WARMING, WORDS, ask, finished, generated, service
from benchmarks.result import Result, Setup, median, percentile

STEPS = 30
SIDE = 64  # pixels of the image that the dCRF is measured at
WAITING = 24  # generations that are filed at once, more than are drawn while questions are asked


def tiers(setup: Setup) -> Iterator[Result]:
    """One question after the other to a trace in memory, to a replay, and to stored queries; cold: the first one of a worker."""
    times: dict[str, list[float]] = {}
    with service(setup) as (warm, _), service(setup, OVAM_TRACE_CACHE_BYTES="0") as (cold, _):
        kept = {"warm": (warm, generated(warm)), "replay": (cold, generated(cold))}
        for precision in ("float16", "int8"):
            capture = {"keep": "queries", "precision": precision}
            kept[precision] = cold, generated(cold, capture=capture)
        end = time.perf_counter() + setup.seconds
        for number in range(-WARMING, setup.times(REQUESTS)):
            if number > 0 and time.perf_counter() > end:
                break
            for tier, (client, job_id) in kept.items():
                times.setdefault(tier, []).append(1000 * ask(client, job_id, number + WARMING))
    first = {tier: samples[0] for tier, samples in times.items()}
    later = {tier: samples[WARMING:] for tier, samples in times.items()}
    for tier, samples in later.items():
        yield Result(
            name=f"tier/{tier}",
            says=f"POST /v1/attribute, one target, no dCRF, {told(tier)}: median of questions in turn",
            value=median(samples),
            unit="ms",
            goal=25.0 if tier == "warm" else None,
            samples=samples,
            details={
                "times_as_long_as_warm": median([one / other for one, other in zip(samples, later["warm"], strict=True)]),
                "p95_ms": percentile(samples, 0.95),
                "first_question_ms": first[tier],
            },
        )


def told(tier: str) -> str:
    """Return where the answer comes from, in words."""
    names = {"warm": "the trace in memory", "replay": "computed again from a replay each time"}
    return names.get(tier, f"read from stored queries ({tier}) each time")


def crf_over_http(setup: Setup) -> Result:
    """What a dCRF adds to an answer, at 64 x 64."""
    with service(setup) as (client, _):
        job_id = generated(client, height=SIDE, width=SIDE)
        pairs = []
        for number in range(-WARMING, setup.times(REQUESTS)):
            pair = ask(client, job_id, number + WARMING), ask(client, job_id, number + WARMING + 1, crf={})
            pairs += [pair] if number >= 0 else []
    added = [1000 * (fitted - plain) for plain, fitted in pairs]
    return Result(
        name="crf_over_http",
        says=f"what a dCRF adds to POST /v1/attribute at {SIDE} x {SIDE}: median of pairs run in turn",
        value=median(added),
        unit="ms",
        goal=10.0,
        samples=added,
        details={"without_ms": 1000 * median([one for one, _ in pairs]), "with_ms": 1000 * median([other for _, other in pairs])},
    )


def busy(setup: Setup) -> Result:
    """How long an answer takes while the worker is busy with generations: at most three evaluations longer."""
    with service(setup) as (client, _):
        job_id = generated(client, num_inference_steps=STEPS)
        alone = [ask(client, job_id, number) for number in range(-WARMING, setup.times(REQUESTS))][WARMING:]
        evaluation = evaluation_seconds(client)
        with generating(client):
            crowded = [ask(client, job_id, number) for number in range(setup.times(REQUESTS))]
            still = client.get("/v1/jobs", params={"state": "queued"}).json()["jobs"]
    own, late = median(alone), percentile(crowded, 0.95)
    return Result(
        name="busy",
        says="POST /v1/attribute while generations saturate the worker: 95th percentile, less its time alone, in evaluations",
        value=(late - own) / evaluation,
        unit="evaluations",
        goal=3.0,
        samples=[(each - own) / evaluation for each in crowded],
        details={
            "alone_ms": 1000 * own,
            "alone_p95_ms": 1000 * percentile(alone, 0.95),
            "p95_ms": 1000 * late,
            "evaluation_ms": 1000 * evaluation,
            "generations_left": len(still),  # some: the worker was busy to the end
        },
    )


def evaluation_seconds(client: httpx2.Client) -> float:
    """How long the UNet takes for one evaluation: what ten steps more take, by the record of the job."""
    short, long = (spent(client, steps) for steps in (10, 20))
    return max(long - short, 1e-6) / 10


def spent(client: httpx2.Client, steps: int) -> float:
    """The least seconds of three generations on the device."""
    records = [finished(client, "/v1/generate", {"prompt": PROMPT, "seed": 1, "num_inference_steps": steps}) for _ in range(3)]
    return min(moment(record["finished_at"]) - moment(record["started_at"]) for record in records)


def moment(text: str) -> float:
    """A time of a record, in seconds."""
    return datetime.fromisoformat(text).timestamp()


@contextmanager
def generating(client: httpx2.Client) -> Iterator[None]:
    """Have many generations wait for the worker inside the `with`; those that are left are deleted after it."""
    bodies: list[dict[str, Any]] = [
        {"prompt": f"a photograph of a {WORDS[number % len(WORDS)]}", "num_inference_steps": STEPS} for number in range(WAITING)
    ]
    ids = [client.post("/v1/generate", json=body).raise_for_status().json()["id"] for body in bodies]
    try:
        while client.get(f"/v1/jobs/{ids[0]}").json()["state"] == "queued":
            time.sleep(0.05)
        yield
    finally:
        for job_id in reversed(ids):
            client.delete(f"/v1/jobs/{job_id}")
