"""The stage of a chaos run: each process reaches Valkey, and S3, by a network of its own that can fail."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import quote

import httpx2
from redis.asyncio import Redis

from contracts.state.store import ArtifactStore
from launcher.children import Child, child
from launcher.processes import available, inherited
from proofs.proxy import Proxy
from proofs.stage import Stage, answers, proxied, ready, stage

GATEWAYS, WORKERS = 2, 3
DISK_BYTES = 192 << 20
BUCKET = "chaos"
AGAIN_AFTER = 1.0  # seconds: a supervisor starts again what has died
LOOK_EVERY = 0.1  # seconds
S3 = {"AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
SETTINGS = {
    "OVAM_KEYS": "required",
    "OVAM_JANITOR_SECONDS": "5",
    "OVAM_MAX_ATTEMPTS": "10",  # chance may kill the same job's workers often, which is no fault of the job's
}


@dataclass
class Member:
    """A gateway or a worker, and its way to Valkey."""

    name: str
    child: Child
    network: Proxy
    url: str = ""
    paused: bool = False
    """Somebody holds it with SIGSTOP."""


@dataclass
class Scene:
    """What there is to break, and direct ways past everything that breaks."""

    stage: Stage
    redis: Redis
    store: ArtifactStore
    gateways: list[Member]
    workers: list[Member]
    s3: Proxy | None = None
    disk: Path | None = None
    random: Random = field(default_factory=Random)

    @property
    def processes(self) -> list[Child]:
        """Everything that is started again when it dies."""
        return [self.stage.valkey, *(member.child for member in [*self.gateways, *self.workers])]


@asynccontextmanager
async def scene(kind: str, folder: Path, models: str, seed: int) -> AsyncIterator[Scene]:
    """A scene whose store is a "disk" or "s3"."""
    async with AsyncExitStack() as stack:
        data, logs = folder / "data", folder / "logs"
        data.mkdir(parents=True)
        settings, s3, disk = {"OVAM_MODELS": models, **SETTINGS}, None, None
        if kind == "s3":
            s3, direct = await bucket(stack, logs)
            settings |= S3 | {"OVAM_STORE_URL": f"s3://{BUCKET}/prefix", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3.port}"}
            os.environ.update(S3 | {"AWS_ENDPOINT_URL": direct})  # for this process, which looks past the proxies
        elif mounted(data):
            stack.callback(subprocess.run, ["umount", "--lazy", str(data)], check=False)
            disk = data
        service = stack.enter_context(stage(data, logs, **settings))
        networks = [await stack.enter_async_context(Proxy.open(service.socket)) for _ in range(GATEWAYS + WORKERS)]
        members = []
        for number, network in enumerate(networks):
            name = f"gateway-{number}" if number < GATEWAYS else f"worker-{number - GATEWAYS}"
            way = {"OVAM_REDIS_URL": proxied(network.port)}
            if number < GATEWAYS:
                process, url = service.gateway(name, **way)
                members.append(Member(name, process, network, url))
            else:
                members.append(Member(name, service.worker(name, **way), network))
        gateways, workers = members[:GATEWAYS], members[GATEWAYS:]
        redis = await stack.enter_async_context(Redis.from_url(f"unix://{quote(service.socket)}?db=0", socket_timeout=5))
        store = ArtifactStore.at(settings.get("OVAM_STORE_URL", f"file://{data}/store"))
        found = Scene(service, redis, store, gateways, workers, s3, disk, Random(seed))
        watching = asyncio.create_task(supervised(found))
        stack.callback(watching.cancel)
        for gateway in gateways:
            await ready(gateway.url)
        yield found


async def bucket(stack: AsyncExitStack, logs: Path) -> tuple[Proxy, str]:
    """Start an S3 server with a bucket behind a proxy; the proxy, and the server's own URL."""
    port = available("127.0.0.1", 0)
    server = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    stack.enter_context(child("s3", server, inherited(), logs))
    url = f"http://127.0.0.1:{port}"
    async with httpx2.AsyncClient() as client, asyncio.timeout(60):
        while True:
            with suppress(httpx2.HTTPError):
                if (await client.put(f"{url}/{BUCKET}")).is_success:
                    break
            await asyncio.sleep(LOOK_EVERY)
    return await stack.enter_async_context(Proxy.open(("127.0.0.1", port))), url


def mounted(folder: Path) -> bool:
    """Make a folder a small disk, which only root can; whether that worked."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603


async def supervised(scene: Scene) -> None:
    """Start again what has died, as Kubernetes or systemd do."""
    died: dict[str, float] = {}
    while True:
        for process in scene.processes:
            if process.process.poll() is None:
                died.pop(process.name, None)
            elif time.monotonic() - died.setdefault(process.name, time.monotonic()) > AGAIN_AFTER:
                with suppress(OSError):  # of a full disk, the log's
                    process.again()
        await asyncio.sleep(LOOK_EVERY)


async def valkey_back(scene: Scene) -> None:
    """Wait until Valkey answers."""
    while not await asyncio.to_thread(answers, scene.stage.socket):
        await asyncio.sleep(LOOK_EVERY)
