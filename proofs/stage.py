"""The service as processes that a proof can kill, pause and start again, started as `ovam up` starts them."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx2
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

from contracts.schema.access import KeyCard, Limits, Scope
from contracts.schema.jobs import utc_now
from contracts.state.keyring import Keyring
from launcher.children import Child, child
from launcher.processes import available, inherited, url_of
from launcher.valkey import embedded_url

READY_WITHIN = 120.0  # seconds
LOOK_EVERY = 0.1  # seconds
WORKER = [sys.executable, "-m", "worker"]
GATEWAY = [sys.executable, "-m", "launcher", "serve"]


@dataclass
class Stage:
    """A Valkey, gateways and workers below a folder."""

    folder: Path
    environment: Mapping[str, str]
    logs: Path
    stack: ExitStack
    children: list[Child] = field(default_factory=list)
    redis_url: str = ""

    @property
    def valkey(self) -> Child:
        """The embedded Valkey."""
        return self.children[0]

    @property
    def socket(self) -> str:
        """The Unix socket that Valkey listens on."""
        return str(self.folder / "valkey" / "socket")

    def worker(self, name: str, command: list[str] = WORKER, **settings: str) -> Child:
        """Start a worker."""
        return self._start(name, command, {"OVAM_WORKER_NAME": name, **settings})

    def gateway(self, name: str, **settings: str) -> tuple[Child, str]:
        """Start a gateway on a free port; the process and its URL."""
        port = available("127.0.0.1", 0)
        return self._start(name, GATEWAY, {"OVAM_PORT": str(port), **settings}), url_of("127.0.0.1", port)

    def _start(self, name: str, command: list[str], settings: Mapping[str, str]) -> Child:
        environment = {**self.environment, "OVAM_REDIS_URL": self.redis_url, **settings}
        started = self.stack.enter_context(child(name, command, environment, self.logs))
        self.children.append(started)
        return started


@contextmanager
def stage(folder: Path, logs: Path | None = None, **settings: str) -> Iterator[Stage]:
    """Start a Valkey below a folder; whatever is started on the stage ends with the block."""
    environment = inherited() | {"OVAM_DATA_DIR": str(folder), "HF_HUB_OFFLINE": "1", "OVAM_THREADS": "1"} | settings
    with ExitStack() as stack:
        service = Stage(folder, environment, logs or folder / "logs", stack)
        stack.callback(wake, service)
        service.redis_url = embedded_url(stack, service.children, folder, environment)
        yield service


def wake(service: Stage) -> None:
    """Let paused processes go on, so that they can be stopped."""
    for each in service.children:
        send(each, signal.SIGCONT)


def send(process: Child, number: signal.Signals) -> None:
    """Send a signal to a process, if it still runs."""
    if process.process.poll() is None:
        os.kill(process.process.pid, number)


def proxied(port: int) -> str:
    """The URL of Valkey behind a proxy."""
    return f"redis://127.0.0.1:{port}/0"


def tiny_models(folder: Path) -> str:
    """Write the tests' tiny pipeline of random weights; returns the setting that names it."""
    from tests.pipelines import tiny_pipeline  # noqa: PLC0415  # torch takes seconds, and other proofs do without

    if not (folder / "model_index.json").exists():
        tiny_pipeline("ddim").save_pretrained(folder)
    return json.dumps({"tiny": str(folder)})


async def ready(url: str, within: float = READY_WITHIN) -> float:
    """Wait until a gateway is ready; returns the seconds that took. TimeoutError if it is not in time."""
    start = time.monotonic()
    async with httpx2.AsyncClient(base_url=url, timeout=5) as client, asyncio.timeout(within):
        while True:
            try:
                if (await client.get("/readyz")).is_success:
                    return time.monotonic() - start
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(LOOK_EVERY)


async def new_key(redis_url: str, tenant: str, *scopes: Scope, **limits: float) -> str:
    """Create an API key of a tenant; its own limits are those given."""
    async with AsyncRedis.from_url(redis_url) as redis:
        scopes_of: list[Scope] = [*scopes] or ["generate", "read"]
        card = KeyCard(name=tenant, tenant=tenant, scopes=scopes_of, limits=Limits.model_validate(limits), created_at=utc_now())
        return await Keyring(redis).create(card)


@asynccontextmanager
async def client_of(url: str, key: str, patience: float = 20) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with an API key."""
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=patience) as client:
        yield client


def memory(process: Child) -> int:
    """Resident bytes of a process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process.process.pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)


def answers(socket: str) -> bool:
    """Whether a Valkey answers on a Unix socket."""
    try:
        with Redis.from_url(f"unix://{quote(socket)}?db=0", socket_timeout=1) as redis:
            return bool(redis.ping())
    except RedisError:
        return False
