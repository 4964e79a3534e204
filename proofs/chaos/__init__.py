"""`make chaos`: jobs of all kinds from several tenants, while everything that they need fails now and then."""

import asyncio
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from proofs.chaos.clients import TENANTS, Books, work
from proofs.chaos.faults import break_things
from proofs.chaos.redelivery import Redelivery
from proofs.chaos.scene import scene
from proofs.chaos.truth import compared
from proofs.claims import Claim, Log, Proof, none, quantile
from proofs.stage import memory, new_key, tiny_models

ACTS = ("disk", "s3")
FAULTS, SHORT_FAULTS = int(os.environ.get("FAULTS", "110")), 6  # of both acts
JOBS = 10  # for each fault
PACE = 1.5  # jobs a second, while there are faults
MIB = 1 << 20


@dataclass
class Total:
    """What both acts came to."""

    claims: list[Claim] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    seconds: list[float] = field(default_factory=list)
    never: int = 0
    gateway_bytes: int = 0


async def run(*, short: bool, seed: int, log: Log) -> Proof:
    """Both acts."""
    total = Total()
    with tempfile.TemporaryDirectory(prefix="ovam-") as folder:
        models = await asyncio.to_thread(tiny_models, Path(folder) / "model")
        for number, kind in enumerate(ACTS):
            await act(kind, Path(folder) / kind, models, 1000 * seed + number, short=short, log=log, total=total)
    claims = [
        *total.claims,
        none("jobs of killed workers that no other worker took", total.never),
        Claim("largest gateway", total.gateway_bytes / MIB, "MiB", at_most=250),
    ]
    if total.seconds or not short:  # the few workers that a short run kills may all have been idle
        claims += [
            Claim("redelivery after a worker's kill -9, median", quantile(total.seconds, 0.5), "s"),
            Claim("redelivery after a worker's kill -9, p95", quantile(total.seconds, 0.95), "s", at_most=10),
        ]
    done: dict[str, float | int | str] = {
        "jobs": sum(total.jobs.values()),
        **total.jobs,
        "faults": sum(total.faults.values()),
        "redelivered": len(total.seconds),
    }
    done |= {"requests": sum(total.answers.values()), "requests without an answer": total.unanswered}
    log.write("answers", **total.answers)
    return Proof("chaos", claims, done, dict(total.faults))


async def act(kind: str, folder: Path, models: str, seed: int, *, short: bool, log: Log, total: Total) -> None:
    """One act, added to the total."""
    faults = (SHORT_FAULTS if short else FAULTS) // len(ACTS)
    books, over = Books(), asyncio.Event()
    log.write("act", kind=kind, seed=seed)
    async with scene(kind, folder, models, seed) as there:
        keys = {tenant: await new_key(there.stage.redis_url, tenant, queued=32) for tenant in TENANTS}
        redelivery = Redelivery(there.redis, books.unfinished, log)
        urls = [gateway.url for gateway in there.gateways]
        working = asyncio.create_task(work(urls, keys, JOBS * faults, PACE, books, Random(seed), log, over))
        total.faults += await break_things(there, faults, log, redelivery)
        over.set()
        await working
        await redelivery.settled()
        total.gateway_bytes = max(total.gateway_bytes, *(memory(gateway.child) for gateway in there.gateways))
        claims = await compared(there, books, log)
    total.claims = claims if not total.claims else [added(*pair) for pair in zip(total.claims, claims, strict=True)]
    total.jobs += Counter(entry.kind for entry in books.entries)
    total.answers += books.answers
    total.unanswered += books.unanswered
    total.seconds += redelivery.seconds
    total.never += redelivery.never


def added(one: Claim, other: Claim) -> Claim:
    """The same claim about both acts."""
    return Claim(one.says, one.measured + other.measured, one.unit, one.at_most, one.at_least)
