"""The real gateway behind a real server, a real Valkey, a worker without a model, and a connection that can be made bad."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from ovam_client import AsyncClient, Patience
from service.app import create_app
from service.settings import GatewaySettings
from tests.service.conftest import redis, settings, traces, worker
from tests.service.serving import served

__all__ = ["redis", "settings", "traces", "worker"]


@dataclass
class Line:
    """A connection to a gateway that does what it is told to: one fault for each connection, then none."""

    port: int
    faults: list[str] = field(default_factory=list)
    """`refuse`: ends at once; `lose`: the gateway gets the request, nobody its answer; `cut`: the answer ends after the first
    event; `busy`: answers 429 itself."""
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry a connection, with its fault."""
        self.connections += 1
        fault = self.faults.pop(0) if self.faults else ""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if fault == "busy":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(
                    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"
                )
            elif fault != "refuse":
                await self.carry(reader, writer, fault)
            await writer.drain()
        writer.close()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: str) -> None:
        """Carry what both sides say until one has said all, or until the fault."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)

        async def there() -> None:
            while data := await reader.read(65536):
                far_writer.write(data)
                await far_writer.drain()

        async def back() -> None:
            while data := await far_reader.read(65536):
                if fault == "lose":
                    return
                writer.write(data)
                await writer.drain()
                if fault == "cut" and b"event:" in data:
                    return

        tasks = [asyncio.create_task(there()), asyncio.create_task(back())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await task
        far_writer.close()


@pytest.fixture
async def url(settings: GatewaySettings) -> AsyncIterator[str]:
    """The address of a gateway."""
    async with served(create_app(settings)) as http:
        yield str(http.base_url)


@pytest.fixture
async def line(url: str) -> AsyncIterator[tuple[Line, str]]:
    """A connection to the gateway, and its address."""
    line = Line(int(url.rsplit(":", 1)[1].strip("/")))
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    async with server:
        yield line, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncClient]:
    """A client that awaits."""
    async with AsyncClient(url, patience=Patience(away=3, busy=3)) as client:
        yield client
