"""`make load`: rates, latencies, memory and fairness, with a worker whose device only takes time."""

import asyncio
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx2
from redis.asyncio import Redis

from launcher.children import Child, child
from launcher.processes import available, inherited
from proofs import jobs
from proofs.claims import Claim, Log, Proof, none, quantile
from proofs.jobs import Request, finished
from proofs.load.crf import beside_a_crf
from proofs.load.rates import REFUSED, Answers, arriving, in_turn
from proofs.load.streams import followed
from proofs.prober import probed
from proofs.stage import Stage, client_of, memory, new_key, ready, stage, tiny_models
from proofs.stub import COMMAND, SECONDS

DEVICE = 0.2  # seconds of each job, until memory is measured, long beside what two cores add
WAIT = 30  # seconds that a client waits for its job
LOADS = (0.5, 0.8, 0.95)  # of the rate that is possible
STREAMS = 500
QUEUED = 256  # the gateway's own limit of a lane
MIB = 1 << 20
WARM = 0.1  # of the jobs, before memory is looked at


@dataclass(frozen=True)
class Size:
    """How long each part lasts (s), and how many jobs the memory is measured over."""

    seconds: float
    jobs: int
    pairs: int
    """Of times in turn with the bare route."""


FULL, SHORT = Size(30, int(os.environ.get("LOAD_JOBS", "10000")), 4), Size(5, 500, 1)


@dataclass
class Load:
    """A gateway under load, and what was measured so far."""

    url: str
    key: str
    size: Size
    random: Random
    source: str = ""
    """A finished job with an image, to ask about."""
    claims: list[Claim] = field(default_factory=list)
    done: dict[str, float | int | str] = field(default_factory=dict)

    def tell(self, log: Log) -> None:
        """Write down what is known so far."""
        log.write("claims", so_far=[str(claim) for claim in self.claims])

    def probe(self, number: int) -> Request:
        """A question about the source."""
        return jobs.probe(number, self.source)


async def run(*, short: bool, seed: int, log: Log) -> Proof:
    """All parts, one after the other."""
    with tempfile.TemporaryDirectory(prefix="ovam-") as folder:
        models = await asyncio.to_thread(tiny_models, Path(folder) / "model")
        settings = {"OVAM_MODELS": models, "OVAM_KEYS": "required", "OVAM_PRELOAD": "false", SECONDS: str(DEVICE)}
        with stage(Path(folder) / "data", Path(folder) / "logs", **settings) as service:
            gateway, url = service.gateway("gateway")
            load = Load(url, await new_key(service.redis_url, "steady"), SHORT if short else FULL, Random(seed))
            async with probed(url) as waits:
                await submissions(load, service)
                load.tell(log)
                worker = service.worker("worker", COMMAND)
                await ready(url)
                async with client_of(url, load.key, WAIT + 10) as client:
                    load.source = (await finished(client, jobs.generate(1)))["id"]
                    rate = await latencies(load, client)
                    load.tell(log)
                    await streams(load, client)
                    load.tell(log)
                    await refusals(load, service)
                    load.tell(log)
                    await fairness(load, service, client, rate)
                    load.tell(log)
                await asyncio.to_thread(worker.stop)
                await flat_memory(load, service, gateway)
                load.tell(log)
            await crf(load, service, models)
        log.write("health", worst=sorted(waits)[-20:])
    load.claims += [
        Claim("/healthz during all this, p99", 1000 * quantile(waits, 0.99), "ms", at_most=100),
        Claim("/healthz during all this, slowest", 1000 * max(waits, default=0), "ms"),
    ]
    return Proof("load", load.claims, load.done)


async def submissions(load: Load, service: Stage) -> None:
    """Submissions a second, while nobody takes the jobs, in turn with a route that writes to Redis once and does no more."""
    port = available("127.0.0.1", 0)
    command = [sys.executable, "-m", "benchmarks.bare", str(port), service.redis_url]
    key = await new_key(service.redis_url, "submitter")
    with child("bare", command, inherited(), service.logs):
        _, url = service.gateway("roomy", OVAM_MAX_QUEUED="1000000")
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as bare, client_of(url, key, 60) as ours:
            await ready_to_submit(ours, bare, service)
            for at_once in (1, 16):
                pairs = []
                for _ in range(load.size.pairs):
                    each = [
                        await in_turn(client, jobs.generate, at_once=at_once, wait=0, seconds=load.size.seconds / 8)
                        for client in (ours, bare)
                    ]
                    pairs.append((each[0].rate, each[1].rate))
                ratios, rates = sorted(one / other for one, other in pairs), sorted(one for one, _ in pairs)
                clients = "1 client" if at_once == 1 else f"{at_once} clients"
                load.claims += [
                    Claim(f"submissions of {clients}", rates[len(rates) // 2], "a second"),
                    Claim(
                        f"the same, as a share of a bare FastAPI route with one Redis write, {clients}", ratios[len(ratios) // 2]
                    ),
                ]
    await forget_jobs(service)


async def ready_to_submit(ours: httpx2.AsyncClient, bare: httpx2.AsyncClient, service: Stage) -> None:
    """Wait until both take a job; a worker has told the gateway of its models, and has gone."""
    worker = service.worker("herald", COMMAND)
    for client in (ours, bare):
        async with asyncio.timeout(120):
            while True:
                path, body = jobs.generate(0)
                try:
                    if (await client.post(path, json=body)).is_success:
                        break
                except httpx2.HTTPError:
                    pass
                await asyncio.sleep(0.2)
    await asyncio.to_thread(worker.stop)


async def forget_jobs(service: Stage) -> None:
    """Take the jobs that nobody will run out of the queues."""
    async with Redis.from_url(service.redis_url) as redis:
        names = []
        for place in ("ovam:queued*", "ovam:job:*", "ovam*:stream*", "ovam:jobs*"):
            names += [name async for name in redis.scan_iter(place, count=1000)]
        for start in range(0, len(names), 1000):
            await redis.delete(*names[start : start + 1000])


async def latencies(load: Load, client: httpx2.AsyncClient) -> float:
    """How long a client waits for its job at several loads; the jobs a second that are possible."""
    size = load.size
    full = await in_turn(client, load.probe, at_once=16, wait=WAIT, seconds=size.seconds)
    load.claims.append(Claim(f"jobs of {1000 * DEVICE:.0f} ms on the device, as many as possible", full.rate, "a second"))
    for share in LOADS:
        found = await arriving(
            client, load.probe, rate=share * full.rate, wait=WAIT, seconds=2 * size.seconds, random=load.random
        )
        for name, part in (("p50", 0.5), ("p95", 0.95)):
            seconds = 1000 * quantile(found.seconds, part)
            load.claims.append(Claim(f"from request to result at {share:.0%} of that rate, {name}", seconds, "ms"))
        load.claims.append(none(f"requests at {share:.0%} of that rate that were not answered well", unwell(found)))
    return full.rate


def unwell(answers: Answers) -> int:
    """How many answers are no finished job."""
    return sum(count for status, count in answers.statuses.items() if status != httpx2.codes.CREATED)


async def streams(load: Load, client: httpx2.AsyncClient) -> None:
    """Many streams on one gateway."""
    limits = httpx2.Limits(max_connections=STREAMS + 10)
    async with httpx2.AsyncClient(base_url=load.url, headers=client.headers, timeout=WAIT, limits=limits) as many:
        load.claims.append(
            none(f"of {STREAMS} streams at once, those that miss their job's end", STREAMS - await followed(many, STREAMS))
        )


async def refusals(load: Load, service: Stage) -> None:
    """More jobs than may wait: each is filed, or refused with 429 and a time to come back."""
    key = await new_key(service.redis_url, "flood")
    async with client_of(load.url, key, 60) as client:
        found = await in_turn(client, jobs.generate, at_once=16, wait=0, seconds=60, most=2 * QUEUED + 100)
        load.claims += [
            Claim("submissions refused when too many jobs wait", found.statuses[REFUSED], at_least=1),
            none("refusals without `Retry-After`, and answers that are neither 202 nor 429", found.impolite + odd(found)),
        ]
        page = (await client.get("/v1/jobs", params={"state": "queued", "limit": 100})).json()
        while page["jobs"]:
            await asyncio.gather(*(client.delete(f"/v1/jobs/{job['id']}") for job in page["jobs"]))
            page = (await client.get("/v1/jobs", params={"state": "queued", "limit": 100})).json()


def odd(answers: Answers) -> int:
    """How many answers neither file a job nor refuse it."""
    return sum(count for status, count in answers.statuses.items() if status not in (httpx2.codes.ACCEPTED, REFUSED))


async def fairness(load: Load, service: Stage, client: httpx2.AsyncClient, rate: float) -> None:
    """A tenant that takes a third of what is possible, at the same moments alone and beside one that asks for all it can get."""
    moments = load.random.random()

    async def steady() -> Answers:
        random = Random(moments)
        return await arriving(client, load.probe, rate=rate / 3, wait=WAIT, seconds=2 * load.size.seconds, random=random)

    alone = await steady()
    key = await new_key(service.redis_url, "flooding", queued=64)
    async with client_of(load.url, key, WAIT + 10) as other:
        source = (await finished(other, jobs.generate(1)))["id"]
        asking = in_turn(other, lambda number: jobs.probe(number, source), at_once=64, wait=WAIT, seconds=2 * load.size.seconds)
        flood = asyncio.create_task(asking)
        await asyncio.sleep(1)
        beside = await steady()
        flooded = await flood
    both = [1000 * quantile(each.seconds, 0.95) for each in (alone, beside)]
    load.claims += [
        Claim("from request to result of a tenant that asks for a third of that rate, p95", both[0], "ms"),
        Claim("the same while another tenant floods the lane, p95", both[1], "ms"),
        Claim("by how much the other tenant raises it", both[1] / both[0] if both[0] else 0, "times", at_most=2),
        none("its requests that were not answered well meanwhile", unwell(beside)),
    ]
    load.done["jobs of the flooding tenant"] = len(flooded.seconds)


async def flat_memory(load: Load, service: Stage, gateway: Child) -> None:
    """The gateway's memory over many jobs, whose device takes no time."""
    service.worker("quick", COMMAND, **{SECONDS: "0"})
    async with client_of(load.url, load.key, WAIT + 10) as client:
        most = load.size.jobs
        slowest = most / 10  # seconds
        warm = await in_turn(client, load.probe, at_once=16, wait=WAIT, seconds=slowest, most=round(WARM * most))
        before = memory(gateway)
        found = await in_turn(client, load.probe, at_once=16, wait=WAIT, seconds=slowest, most=most)
        after = memory(gateway)
    load.done["jobs over which memory was measured"] = len(found.seconds)
    load.claims += [
        Claim("jobs of no time on the device, from request to result", found.rate, "a second"),
        Claim(f"the gateway's memory after {len(warm.seconds)} of them", before / MIB, "MiB"),
        Claim(f"the same after {len(found.seconds)} more", after / MIB, "MiB", at_most=250),
        Claim("growth between these", (after - before) / MIB, "MiB", at_most=16),
    ]


async def crf(load: Load, service: Stage, models: str) -> None:
    """The heart of a worker that computes dense CRFs."""
    silence, attempts = await beside_a_crf(service, load.url, load.key, models)
    load.claims += [
        Claim("a worker's longest silence beside dense CRFs", silence, "s", at_most=4),
        Claim("attempts of their job, with a lease of one second", attempts, at_most=1),
    ]
