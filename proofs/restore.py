"""`make restore`: back up a service that works, restore it elsewhere, and compare."""

import asyncio
import hashlib
import itertools
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx2

from proofs import jobs
from proofs.claims import Claim, Log, Proof, none
from proofs.jobs import Json, finished
from proofs.stage import Stage, client_of, new_key, ready, stage, tiny_models

BACK_UP = """\
$PYTHON -c 'import sys, redis; redis.Redis(unix_socket_path=sys.argv[1]).save()' "$DATA/valkey/socket"
mkdir -p "$COPY"
cp "$DATA/valkey/dump.rdb" "$COPY/"
cp -r "$DATA/store" "$COPY/"
"""
"""Valkey first: whatever its records name is then in the copy of the store."""

RESTORE = """\
mkdir -p "$DATA/valkey/appendonlydir"
cp "$COPY/dump.rdb" "$DATA/valkey/appendonlydir/appendonly.aof.1.base.rdb"
echo 'file appendonly.aof.1.base.rdb seq 1 type b' >"$DATA/valkey/appendonlydir/appendonly.aof.manifest"
cp -r "$COPY/store" "$DATA/"
"""
"""Into a folder that is empty."""

TENANTS = ("one", "two")
ENDED_WITHIN = 60.0  # seconds
Seen = dict[str, Json]
"""What a tenant sees, by path: records, cards of tokens, and files by their digests."""


async def run(*, short: bool, seed: int, log: Log) -> Proof:
    """Back up while jobs run, restore to another folder, compare."""
    rounds = 2 if short else 10
    with tempfile.TemporaryDirectory(prefix="ovam-") as folder:
        place = Path(folder)
        models = await asyncio.to_thread(tiny_models, place / "model")
        settings = {"OVAM_MODELS": models, "OVAM_KEYS": "required"}
        with stage(place / "old", **settings) as old:
            keys = {tenant: await new_key(old.redis_url, tenant) for tenant in TENANTS}
            url = await start(old)
            for number in range(seed, seed + rounds):
                for key in keys.values():
                    await every_kind(url, key, number)
            before = {tenant: await seen(url, key) for tenant, key in keys.items()}
            busy = asyncio.create_task(keep_busy(url, keys[TENANTS[0]]))
            await asyncio.sleep(1)
            seconds = await shell(BACK_UP, place / "old", place / "copy")
            busy.cancel()
            late = (await submitted(url, keys[TENANTS[0]]))["id"]
        await shell(RESTORE, place / "new", place / "copy")
        with stage(place / "new", **settings) as new:
            url = await start(new)
            unknown = await status(url, keys[TENANTS[0]], f"/v1/jobs/{late}")
            ended = await all_end(url, keys[TENANTS[0]])
            after = {tenant: await seen(url, key) for tenant, key in keys.items()}
    wrong = [path for tenant in TENANTS for path, what in before[tenant].items() if after[tenant].get(path) != what]
    kinds = {"records": "/v1/jobs/", "tokens": "/v1/tokens/"}
    log.write("compared", wrong=wrong)
    compared = [path for tenant in TENANTS for path in before[tenant]]
    count = {what: sum(path.startswith(root) and "/artifacts/" not in path for path in compared) for what, root in kinds.items()}
    files = sum("/artifacts/" in path or path.endswith("/file") for path in compared)
    count["tokens"] -= sum(path.endswith("/file") for path in compared)
    claims = [
        none("records, tokens and files that differ, or are gone, after the restore", len(wrong)),
        none("jobs that waited or ran during the backup and do not succeed after the restore", len(ended[1])),
        none("records of jobs that were filed after the backup", int(unknown != httpx2.codes.NOT_FOUND)),
        Claim("API keys that let nobody in", 0 if all(after.values()) else 1, at_most=0),
        Claim("back-up of a service that works", seconds, "s"),
    ]
    return Proof("restore", claims, {**count, "files": files, "jobs during the backup": len(ended[0]) + len(ended[1])})


async def start(service: Stage) -> str:
    """Start a gateway and a worker; the URL."""
    service.worker("worker")
    _, url = service.gateway("gateway")
    await ready(url)
    return url


async def every_kind(url: str, key: str, number: int) -> None:
    """A job of each kind."""
    async with client_of(url, key) as client:
        source = (await finished(client, jobs.generate(number)))["id"]
        for request in (jobs.image(number), jobs.attribute(number, source), jobs.probe(number, source)):
            await finished(client, request)
        for request in (jobs.optimize(number, source), jobs.imports(number)):
            await finished(client, request)


async def submitted(url: str, key: str, number: int = 0) -> Json:
    """A job that is only filed."""
    async with client_of(url, key) as client:
        path, body = jobs.generate(number, steps=20)
        return (await client.post(path, json=body)).raise_for_status().json()


async def keep_busy(url: str, key: str) -> None:
    """File jobs until it is canceled: some wait, some run at each moment."""
    for number in itertools.count(1000):
        with suppress(httpx2.HTTPError):
            await submitted(url, key, number)
        await asyncio.sleep(0.02)


async def shell(script: str, data: Path, copy: Path) -> float:
    """Run commands as the documentation gives them; the seconds they took."""
    begin = time.monotonic()
    environment = {**os.environ, "PYTHON": sys.executable, "DATA": str(data), "COPY": str(copy)}
    process = await asyncio.create_subprocess_exec("bash", "-euc", script, env=environment)
    if await process.wait():
        raise RuntimeError(f"the commands failed:\n{script}")
    return time.monotonic() - begin


async def seen(url: str, key: str) -> Seen:
    """All that a tenant sees of what has ended."""
    found: Seen = {}
    async with client_of(url, key) as client:
        for job_id in await job_ids(client, "succeeded"):
            record = (await client.get(f"/v1/jobs/{job_id}")).raise_for_status().json()
            found[f"/v1/jobs/{job_id}"] = record
            for path in jobs.artifacts(record):
                found[path] = await digest(client, path)
        for listing in (await client.get("/v1/tokens", params={"limit": 100})).raise_for_status().json()["tokens"]:
            for card in (await client.get(f"/v1/tokens/{listing['name']}/versions")).raise_for_status().json()["versions"]:
                path = f"/v1/tokens/{card['name']}@{card['version']}"
                found[path] = card
                found[f"{path}/file"] = await digest(client, f"{path}/file")
    return found


async def digest(client: httpx2.AsyncClient, path: str) -> Json:
    """A file's digest; the status if there is none."""
    answer = await client.get(path)
    return {"status": answer.status_code, "sha256": hashlib.sha256(answer.content).hexdigest()}


async def job_ids(client: httpx2.AsyncClient, state: str) -> list[str]:
    """The ids of all jobs in a state."""
    found, cursor = list[str](), {}
    while True:
        page = (await client.get("/v1/jobs", params={"state": state, "limit": 100, **cursor})).raise_for_status().json()
        found += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}


async def all_end(url: str, key: str) -> tuple[list[str], list[str]]:
    """Wait for the jobs that the restored service finds unfinished; those that succeed, and those that do not."""
    async with client_of(url, key) as client:
        waiting = [*await job_ids(client, "queued"), *await job_ids(client, "running")]
        deadline = time.monotonic() + ENDED_WITHIN
        while time.monotonic() < deadline and any([await job_ids(client, "queued"), await job_ids(client, "running")]):
            await asyncio.sleep(0.2)
        states = [(job_id, (await client.get(f"/v1/jobs/{job_id}")).json()["state"]) for job_id in waiting]
        wrong = [job_id for job_id, state in states if state != "succeeded"]
        for job_id in set(waiting) - set(wrong):
            record = (await client.get(f"/v1/jobs/{job_id}")).json()
            sums = {path: (await digest(client, path))["sha256"] for path in jobs.artifacts(record)}
            if any(sums[path] != what["sha256"] for path, what in jobs.artifacts(record).items()):
                wrong.append(job_id)
        return [job_id for job_id in waiting if job_id not in wrong], wrong


async def status(url: str, key: str, path: str) -> int:
    """The status of an answer."""
    async with client_of(url, key) as client:
        return (await client.get(path)).status_code
