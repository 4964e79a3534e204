"""What a worker answers those who watch it."""

import asyncio
import socket
import time

import httpx2
import pytest
from prometheus_client import CollectorRegistry, Gauge

from contracts.settings import BadSettingsError
from worker import monitor
from worker.monitor import watched

HOST = "127.0.0.1"


async def answer(port: int, path: str) -> tuple[int, str]:
    async with httpx2.AsyncClient(base_url=f"http://{HOST}:{port}") as client:
        found = await client.get(path)
        return found.status_code, found.text


async def test_metrics_and_health_are_answered_and_nothing_else() -> None:
    registry = CollectorRegistry()
    Gauge("ovam_answer", "It", registry=registry).set(42)
    async with watched(HOST, 0, registry) as port:
        assert await answer(port, "/healthz") == (200, "200 OK\n")
        assert "ovam_answer 42.0" in (await answer(port, "/metrics"))[1]
        assert (await answer(port, "/"))[0] == 404
    with socket.socket() as connection:
        assert connection.connect_ex((HOST, port))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_worker_whose_event_loop_hangs_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "HANGS_AFTER", 0.1)
    monkeypatch.setattr(monitor, "TICK_SECONDS", 60)
    async with watched(HOST, 0, CollectorRegistry()) as port:
        await asyncio.sleep(0.2)
        assert (await answer(port, "/healthz"))[0] == 503


async def test_a_silent_client_is_let_go_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(HOST, 0, CollectorRegistry()) as port:
        _, silent = await asyncio.open_connection(HOST, port)
        assert (await answer(port, "/healthz"))[0] == 200  # the silent one's thread has begun
        ends = time.monotonic()
    assert time.monotonic() - ends < 5
    silent.close()
    monkeypatch.setattr(monitor.Quiet, "timeout", 0.05)
    async with watched(HOST, 0, CollectorRegistry()) as port:
        reader, silent = await asyncio.open_connection(HOST, port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        silent.close()


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadSettingsError, match=rf"OVAM_METRICS_PORT={port}: cannot listen"):
            async with watched(HOST, port, CollectorRegistry()):
                pass
