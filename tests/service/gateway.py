"""A gateway as a process of its own, which can be stopped, watched and measured."""

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.conftest import free_port

Post = tuple[str, bytes]


@dataclass(frozen=True)
class Gateway:
    url: str
    process: subprocess.Popen[bytes]

    @property
    def peak_memory(self) -> int:
        """MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) // 1024

    def post_all(self, posts: Sequence[Post], at_once: int = 1) -> list[int]:
        """The statuses that bodies are answered with."""

        def post(path: str, body: bytes) -> int:
            return httpx2.post(
                f"{self.url}{path}", content=body, headers={"content-type": "application/json"}, timeout=60
            ).status_code

        with ThreadPoolExecutor(at_once) as threads:
            return [*threads.map(lambda each: post(*each), posts)]

    def slowest_health_during(self, work: Callable[[], object]) -> float:
        """The seconds that the slowest answer of /healthz took while work was done."""
        times, done = [0.0], threading.Event()

        def ask() -> None:
            with httpx2.Client(timeout=60) as client:
                while not done.is_set():
                    begun = time.perf_counter()
                    client.get(f"{self.url}/healthz")
                    times.append(time.perf_counter() - begun)
                    time.sleep(0.02)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            work()
        finally:
            done.set()
            asking.join()
        return max(times)


@contextmanager
def running(redis_url: str, store_url: str, **variables: str) -> Iterator[Gateway]:
    """A gateway until the block ends."""
    port = free_port()
    known = {"OVAM_REDIS_URL": redis_url, "OVAM_STORE_URL": store_url, "OVAM_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "launcher", "serve"], env={**os.environ, **known, **variables}, stderr=subprocess.DEVNULL
    )
    gateway = Gateway(f"http://127.0.0.1:{port}", process)
    try:
        wait_for(gateway)
        yield gateway
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(gateway: Gateway) -> None:
    """Return when it answers."""
    for _ in range(300):
        try:
            if httpx2.get(f"{gateway.url}/healthz").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise AssertionError(gateway.process.poll())


@asynccontextmanager
async def raw(client: httpx2.AsyncClient, data: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a client's server over which something was sent."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        writer.write(data)
        await writer.drain()
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
