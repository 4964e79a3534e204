"""`make datasets`: a data set survives that everything is killed, costs little beside its jobs, and stays small."""

import asyncio
import io
import json
import os
import signal
import tarfile
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx2
from redis.asyncio import Redis

from contracts.schema.datasets import Entry
from contracts.state import keys
from contracts.state.store import ArtifactStore
from launcher.children import Child
from proofs.claims import Claim, Log, Proof, none
from proofs.stage import Stage, answers, memory, ready, send, stage, tiny_models
from proofs.stub import COMMAND, SECONDS

PATIENCE = 60.0  # seconds without progress after which a data set counts as stuck
LOOK = 0.5
AT_ONCE = 6  # images, of two workers
MIB = 1 << 20
Json = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How many images each part has, and how often something is killed."""

    killed: int
    kills: int
    timed: int
    kept: int


FULL, SHORT = Size(400, 12, 200, int(os.environ.get("DATASET_IMAGES", "20000"))), Size(60, 3, 40, 300)


async def run(*, short: bool, seed: int, log: Log) -> Proof:
    """All parts, one after the other."""
    size, claims, done = SHORT if short else FULL, list[Claim](), dict[str, float | int | str]()
    with tempfile.TemporaryDirectory(prefix="ovam-") as folder:
        models = await asyncio.to_thread(tiny_models, Path(folder) / "model")
        settings = {"OVAM_MODELS": models, "OVAM_PRELOAD": "false", "OVAM_REDELIVERY_SECONDS": "2"}
        with stage(Path(folder) / "killed", Path(folder) / "logs", **settings, **{SECONDS: "0.2"}) as service:
            claims += await survives(service, size, Random(seed), log)
        with stage(Path(folder) / "timed", Path(folder) / "logs", **settings, **{SECONDS: "0.25"}) as service:
            claims += await costs(service, size, log)
        with stage(Path(folder) / "kept", Path(folder) / "logs", **settings, **{SECONDS: "0"}) as service:
            claims += await stays_small(service, size, log)
    done |= {"images": size.killed + size.timed + size.kept, "kills": size.kills}
    return Proof("datasets", claims, done)


async def create(client: httpx2.AsyncClient, images: int, **options: object) -> str:
    """Ask for a data set of so many images."""
    request = {"classes": [{"name": "car"}], "prompts": ["a car", "a photograph of a car"], "images_per_prompt": images // 2}
    answer = await client.post("/v1/datasets", json=request | options)
    answer.raise_for_status()
    return answer.json()["id"]


async def looked_at(client: httpx2.AsyncClient, dataset_id: str) -> Json | None:
    """The record; None while nobody answers."""
    try:
        answer = await client.get(f"/v1/datasets/{dataset_id}")
        return answer.json() if answer.is_success else None
    except httpx2.HTTPError:
        return None


async def finished(client: httpx2.AsyncClient, dataset_id: str, log: Log, *, images: int | None = None) -> Json:
    """The record once it is final, or so many images are done. TimeoutError if nothing moves any more."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < PATIENCE:
        record = await looked_at(client, dataset_id)
        if record is not None:
            count = record["counts"]["done"]
            if record["state"] in ("succeeded", "failed") or (images is not None and count >= images):
                return record
            if count != seen:
                seen, since = count, time.monotonic()
        await asyncio.sleep(LOOK / 5)
    log.write("stuck", record=record)
    raise TimeoutError(f"data set {dataset_id} is stuck at {seen} images")


async def survives(service: Stage, size: Size, random: Random, log: Log) -> list[Claim]:
    """Kill workers, gateways and Valkey while a data set is made; then look at every entry."""
    workers = [service.worker(f"worker-{n}", COMMAND) for n in range(2)]
    gateways = [service.gateway(f"gateway-{n}") for n in range(2)]
    for _, url in gateways:
        await ready(url)
    kills = Counter[str]()
    async with httpx2.AsyncClient(base_url=gateways[0][1], timeout=5) as client:
        dataset_id = await create(client, size.killed, concurrency=6, filters={"duplicates": "exact"})
        for number in range(size.kills):
            await finished(client, dataset_id, log, images=(number + 1) * size.killed // (size.kills + 2))
            victims = {"worker": random.choice(workers), "gateway": random.choice(gateways)[0], "valkey": service.valkey}
            name = random.choice([*victims])
            await killed(victims[name], service)
            kills[name] += 1
            log.write("killed", name=name)
        record = await finished(client, dataset_id, log)
        seen = await entries_of(service, record)
        exported = await export_of(client, dataset_id)
        jobs = (await client.get("/v1/jobs", params={"limit": 100})).json()["jobs"]
    log.write("survived", record=record, kills=dict(kills))
    return [
        Claim("images of a data set that were made under kill -9", len(seen), at_least=size.killed),
        none("images missing or twice", len(set(range(size.killed)) ^ set(seen)) + len(seen) - len(set(seen))),
        none("images that failed", record["counts"]["failed"]),
        none(
            "images counted wrongly",
            abs(record["counts"]["accepted"] - len(exported)) + abs(record["counts"]["done"] - size.killed),
        ),
        Claim("jobs that are left of them", len(jobs)),
    ]


async def killed(victim: Child, service: Stage) -> None:
    """Kill a process with no time to do anything, and start it again."""
    send(victim, signal.SIGKILL)
    await asyncio.to_thread(victim.process.wait)
    victim.again()
    while not answers(service.socket):
        await asyncio.sleep(LOOK / 5)


async def entries_of(service: Stage, record: Json) -> list[int]:
    """The numbers of all entries that are in the store in the end."""
    store = ArtifactStore.at(f"file://{service.folder / 'store'}")
    found = list[int]()
    async for key in store.keys_below(f"{keys.dataset_folder(record['id'])}/final"):
        lines = (await store.get(key) or b"").splitlines()
        found += [Entry.model_validate_json(line).number for line in lines]
    return found


async def export_of(client: httpx2.AsyncClient, dataset_id: str) -> list[Json]:
    """The lines of an export."""
    answer = await client.get(f"/v1/datasets/{dataset_id}/export", params={"format": "voc"}, timeout=120)
    answer.raise_for_status()
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        lines = tar.extractfile("samples.jsonl")
        return [] if lines is None else [json.loads(line) for line in lines.read().splitlines()]


async def costs(service: Stage, size: Size, log: Log) -> list[Claim]:
    """How long a data set takes on two workers, beside the same jobs filed by clients that do nothing else."""
    for n in range(2):
        service.worker(f"worker-{n}", COMMAND)
    _, url = service.gateway("gateway")
    await ready(url)
    async with httpx2.AsyncClient(base_url=url, timeout=40) as client:
        await finished(client, await create(client, 12), log)  # what happens only once has happened
        begun = time.monotonic()
        await by_hand(client, size.timed)
        alone = time.monotonic() - begun
        begun = time.monotonic()
        await finished(client, await create(client, size.timed, concurrency=AT_ONCE), log)
        whole = time.monotonic() - begun
    device = size.timed * 2 * float(service.environment[SECONDS]) / 2
    log.write("timed", dataset=whole, by_hand=alone, device=device)
    return [
        Claim(
            f"time of {size.timed} images on two workers, beyond that of the same jobs filed one by one",
            percent(whole, alone),
            "%",
            at_most=5,
        ),
        Claim("the same, beyond the time of the devices alone", percent(whole, device), "%"),
    ]


def percent(whole: float, part: float) -> float:
    """By how much a time is longer than another."""
    return 100 * (whole / part - 1)


async def by_hand(client: httpx2.AsyncClient, images: int) -> None:
    """Do what a data set does, without keeping anything: each of some clients draws an image and asks where the car is."""
    numbers = iter(range(images))

    async def one() -> None:
        for number in numbers:
            drawn = await job(client, "generate", {"prompt": "a car", "seed": number})
            await job(client, "attribute", {"job_id": drawn, "targets": [{"word": "car"}]})

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))


async def job(client: httpx2.AsyncClient, kind: str, request: Json) -> str:
    """The id of a job that has ended."""
    answer = await client.post(f"/v1/{kind}", json=request, headers={"Prefer": "wait=30", "Job-Priority": "bulk"})
    if answer.status_code != httpx2.codes.CREATED:
        raise TimeoutError(answer.text)
    return answer.json()["id"]


async def stays_small(service: Stage, size: Size, log: Log) -> list[Claim]:
    """How much more memory gateway and Valkey take when a data set is done than when a tenth of it was."""
    for n in range(2):
        service.worker(f"worker-{n}", COMMAND, OVAM_LONG_JOBS="4")
    gateway, url = service.gateway("gateway")
    await ready(url)
    async with httpx2.AsyncClient(base_url=url, timeout=20) as client, Redis.from_url(service.redis_url) as redis:
        begun = time.monotonic()
        dataset_id = await create(client, size.kept, filters={"duplicates": "perceptual", "area": {"kind": "percentiles"}})
        await finished(client, dataset_id, log, images=size.kept // 10)
        early = memory(gateway), (await redis.info("memory"))["used_memory"]
        record = await finished(client, dataset_id, log)
        late = memory(gateway), (await redis.info("memory"))["used_memory"]
        log.write("kept", early=early, late=late, record=record, seconds=time.monotonic() - begun)
        rate = size.kept / (time.monotonic() - begun)
    return [
        Claim(
            f"memory of the gateway after {size.kept} images, beside after a tenth of them", late[0] / early[0], "x", at_most=1.25
        ),
        Claim("the same of Valkey", late[1] / early[1], "x", at_most=1.25),
        Claim("images a second without device time, on two workers", rate, "/s"),
    ]
