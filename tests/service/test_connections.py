"""Clients that are slow, on purpose or not, do not hold connections for ever."""

import asyncio
from contextlib import suppress

import httpx2
import pytest

from contracts.state.store import File
from tests.service.gateway import raw
from tests.service.in_test_worker import InTestWorker

LARGE = 30 * 2**20  # more than the buffers between a server and a client hold


async def test_a_connection_that_sends_no_whole_head_is_closed(
    online: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.server.HEAD_WITHIN", 0.5)
    ask = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for data in (b"", b"GET /hea", ask[:-2], ask + ask[:-2]):
        async with raw(online, data) as (reader, _):
            answer = await asyncio.wait_for(reader.read(), 30)
            assert answer.count(b'{"status":"ok"}') == data.count(ask)
    async with raw(online, b"") as (reader, writer):
        with suppress(ConnectionError):
            for byte in ask[:-2]:  # which takes longer than a head may
                writer.write(bytes([byte]))
                await asyncio.sleep(0.03)
            assert await asyncio.wait_for(reader.read(), 30) == b""


async def test_a_client_that_does_not_read_is_let_go(
    online: httpx2.AsyncClient, worker: InTestWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.server.READ_WITHIN", 0.5)
    job_id = (await online.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
    await worker.end(job_id)
    await worker.store.commit(job_id, 1, [File("large", "application/octet-stream", bytes(LARGE))])
    ask = f"GET /v1/jobs/{job_id}/artifacts/large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    async with raw(online, ask) as (reader, _):
        while "artifacts" not in (await online.get("/metrics")).text:  # until the request has ended
            await asyncio.sleep(0.1)
        come = 0
        with suppress(ConnectionError):
            while piece := await asyncio.wait_for(reader.read(2**20), 30):
                come += len(piece)
    assert 0 < come < LARGE
