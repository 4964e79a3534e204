"""`make fuzz`: hostile requests of every kind, while a load balancer asks whether the gateway lives."""

import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from random import Random

import httpx2

from proofs import jobs
from proofs.claims import Claim, Log, Proof, none, quantile
from proofs.fuzz import described, hostile
from proofs.fuzz.asked import SECRET, Asked, Tenant
from proofs.jobs import finished
from proofs.prober import EVERY, probed
from proofs.restore import job_ids
from proofs.stage import Stage, client_of, memory, new_key, ready, stage, tiny_models
from proofs.stub import COMMAND, SECONDS

REQUESTS, SHORT = 5000, 1000
ONE_BY_ONE, SEQUENCES = 0.5, 0.2  # of the requests; the rest is the hostile corpus
MIB = 1 << 20


async def run(*, short: bool, seed: int, log: Log) -> Proof:
    """All requests."""
    count = int(os.environ.get("FUZZ") or (SHORT if short else REQUESTS))
    asked = Asked(log, Random(seed))
    with tempfile.TemporaryDirectory(prefix="ovam-") as folder:
        models = await asyncio.to_thread(tiny_models, Path(folder) / "model")
        settings = {"OVAM_MODELS": models, "OVAM_KEYS": "required", "OVAM_PRELOAD": "false", SECONDS: "0.005"}
        with stage(Path(folder) / "data", Path(folder) / "logs", **settings) as service:
            service.worker("worker", COMMAND)
            gateway, url = service.gateway("gateway")
            await ready(url)
            mine, other = await asyncio.gather(owner(service, url, "mine", ""), owner(service, url, "other", SECRET))
            begin = time.monotonic()
            async with probed(url) as waits:
                await asyncio.gather(
                    asyncio.to_thread(describe, url, asked, mine, other, count, seed),
                    hostile.attack(url, asked, mine, other, round(count * (1 - ONE_BY_ONE - SEQUENCES)), Random(seed)),
                )
            seconds = time.monotonic() - begin
            size, crashed = memory(gateway), gateway.process.poll() is not None
            bad = await internal_failures(url, mine)
    log.write("health", worst=sorted(waits)[-20:], statuses=asked.statuses)
    claims = [
        none("answers 5xx, or none at all", asked.broken),
        none("answers that the API's description does not have", asked.undocumented),
        none("answers that hold another tenant's things, or requests that changed them", asked.leaks),
        Claim("/healthz meanwhile, p50", 1000 * quantile(waits, 0.5), "ms"),
        Claim("/healthz meanwhile, p99", 1000 * quantile(waits, 0.99), "ms", at_most=100),
        Claim("/healthz meanwhile, slowest", 1000 * max(waits, default=0), "ms"),
        none("gateways that died", int(crashed)),
        none("jobs that failed by `internal-error` or `worker-died`", bad),
        Claim("the gateway's memory afterwards", size / MIB, "MiB", at_most=250),
    ]
    done = {"requests": sum(asked.requests.values()), **asked.requests, "seconds": round(seconds)}
    return Proof("fuzz", claims, {**done, f"probes of /healthz, each {EVERY} s": len(waits)})


def describe(url: str, asked: Asked, mine: Tenant, other: Tenant, count: int, seed: int) -> None:
    """Send what follows from the API's description."""
    schema = described.description(url)
    described.one_by_one(schema, described.Sender(asked, mine, other, "one by one"), round(count * ONE_BY_ONE), seed)
    described.in_sequences(schema, described.Sender(asked, mine, other, "in sequences"), round(count * SEQUENCES), seed)


async def owner(service: Stage, url: str, name: str, word: str) -> Tenant:
    """A tenant with finished jobs and a token; a word is in all that is its own."""
    key = await new_key(service.redis_url, name, "generate", "read", "admin")
    async with client_of(url, key) as client:
        path, body = jobs.generate(1)
        made = [await finished(client, (path, body | {"prompt": f"a {word} cat"})) for _ in range(2)]
        path, body = jobs.imports(1)
        await finished(client, (path, body | {"name": f"of-{name}", "classes": [word or "cat"]}))
    return Tenant(key, [record["id"] for record in made], [f"of-{name}", f"of-{name}@1"])


async def internal_failures(url: str, tenant: Tenant) -> int:
    """How many of a tenant's jobs failed by no fault of their request."""
    async with httpx2.AsyncClient(base_url=url, headers=tenant.headers, timeout=30) as client:
        records = [(await client.get(f"/v1/jobs/{job_id}")).json() for job_id in await job_ids(client, "failed")]
    return sum(
        json.dumps(record["error"]).count('"internal-error"') + ("worker-died" in str(record["error"])) for record in records
    )
