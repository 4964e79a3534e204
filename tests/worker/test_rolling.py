"""Everything is restarted, one process after the other, while jobs go on coming: none is lost, and no request fails."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from contracts.schema.jobs import State
from contracts.state import keys
from tests.conftest import free_port
from tests.worker.client import Client, soon
from tests.worker.test_recovery import alive, process
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
BODY = {"prompt": "a tree", "num_inference_steps": 2, "height": 64, "width": 64}
BETWEEN = 1.0  # seconds between two requests of one client


@dataclass
class Balancer:
    """Sends requests to open gateways, each in its turn. A gateway is closed before it is stopped, as in a cluster."""

    http: httpx2.AsyncClient
    open: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)

    async def submit_forever(self) -> None:
        """Submit jobs one after the other, and wait a moment for each."""
        while True:
            gateway = self.open[len(self.statuses) % len(self.open)]
            answer = await self.http.post(f"{gateway}/v1/generate", json=BODY, headers={"Prefer": "wait=3"})
            self.statuses.append(answer.status_code)
            self.jobs.append(answer.json()["id"])
            await asyncio.sleep(BETWEEN)

    async def answers(self, url: str) -> bool:
        """Whether a gateway answers."""
        with suppress(httpx2.HTTPError):
            return (await self.http.get(f"{url}/readyz")).is_success
        return False


def started(settings: WorkerSettings, port: int) -> subprocess.Popen[bytes]:
    own = {"OVAM_REDIS_URL": settings.redis_url, "OVAM_STORE_URL": settings.store_url, "OVAM_PORT": str(port)}
    environment = {**os.environ, **own, "OVAM_LOG_LEVEL": "warning"}
    return subprocess.Popen([sys.executable, "-m", "launcher", "serve"], env=environment, cwd=ROOT)


@asynccontextmanager
async def gateway(settings: WorkerSettings, port: int, balancer: Balancer) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A gateway as people start it, open once it is ready; ended in order at the end."""
    url, served = f"http://127.0.0.1:{port}", started(settings, port)
    try:
        await soon(lambda: balancer.answers(url))
        balancer.open.append(url)
        yield served
        balancer.open.remove(url)
        served.send_signal(signal.SIGTERM)
        await asyncio.to_thread(served.wait, 30)
    finally:
        served.kill()
        served.wait()


@asynccontextmanager
async def worker(client: Client, settings: WorkerSettings, name: str) -> AsyncIterator[None]:
    """A worker as people start it, once it is alive; ended in order at the end."""
    with process(settings, name, OVAM_GRACE_SECONDS="1", OVAM_LOG_LEVEL="warning") as started:
        await soon(lambda: alive(client, name))
        yield
        started.send_signal(signal.SIGTERM)
        await asyncio.to_thread(started.communicate, timeout=60)
        assert started.returncode == 0


@pytest.mark.e2e
async def test_a_rolling_restart_of_everything_loses_no_job_and_fails_no_request(
    client: Client, settings: WorkerSettings
) -> None:
    ports = free_port(), free_port()
    async with httpx2.AsyncClient(timeout=30, limits=httpx2.Limits(max_keepalive_connections=0)) as http:
        balancer = Balancer(http)
        async with AsyncExitStack() as new:
            async with AsyncExitStack() as old:
                await old.enter_async_context(worker(client, settings, "old"))
                gateways = [await old.enter_async_context(gateway(settings, port, balancer)) for port in ports]
                submitting = [asyncio.create_task(balancer.submit_forever()) for _ in range(2)]
                await soon(lambda: asyncio.sleep(0.05, len(balancer.jobs) > 3))
                await new.enter_async_context(worker(client, settings, "new"))
                for port in (free_port(), free_port()):
                    await new.enter_async_context(gateway(settings, port, balancer))
            assert [each.returncode for each in gateways] == [0, 0]
            before = len(balancer.jobs)
            await soon(lambda: asyncio.sleep(0.05, len(balancer.jobs) > before + 3))
            for task in submitting:
                assert not task.done(), task
                task.cancel()
            ended = [await client.ended(job_id) for job_id in balancer.jobs]
    assert set(balancer.statuses) <= {201, 202}
    assert {record.state for record in ended} == {State.SUCCEEDED}
    assert len({record.id for record in ended}) == len(balancer.statuses)
    for record in ended:
        folders = {key.split("/")[2] for key in await client.stored(keys.job_folder(record.id))}
        assert folders == {str(record.attempt)}, "the files of one attempt alone are kept"
