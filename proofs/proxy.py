"""A network that fails on command: a TCP proxy that can cut, hang, slow down, or answer like an overloaded S3."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal, Self

Weather = Literal["fair", "cut", "hang", "slow", "errors"]
CHUNK = 1 << 16
DELAY = 0.15  # seconds for each piece, each way, when it is slow
LOOK_EVERY = 0.05  # seconds
ERROR = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """Forwards connections to `host:port`, or to a Unix socket, as the weather allows."""

    def __init__(self, target: tuple[str, int] | str) -> None:
        self.target = target
        self.weather: Weather = "fair"
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, target: tuple[str, int] | str, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[Self]:
        """Listen on a free port; with a context, for TLS."""
        proxy = cls(target)
        server = await asyncio.start_server(proxy._begin, host, 0, ssl=tls)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            for task in proxy._serving:
                task.cancel()
            proxy._drop()

    def set(self, weather: Weather) -> None:
        """Change the weather; "cut" and "errors" also end the connections that there are."""
        self.weather = weather
        if weather in ("cut", "errors"):
            self._drop()

    def _drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection until one side has had enough."""
        self._writers.add(writer)
        try:
            if self.weather == "errors":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(ERROR)
                await writer.drain()
            elif self.weather != "cut":
                await self._forward(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(self.target, str):
            far_reader, far_writer = await asyncio.open_unix_connection(self.target)
        else:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        ways = [asyncio.create_task(self._pipe(reader, far_writer)), asyncio.create_task(self._pipe(far_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            far_writer.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                while self.weather == "hang":  # bytes that are on their way arrive when it is over
                    await asyncio.sleep(LOOK_EVERY)
                if self.weather == "slow":
                    await asyncio.sleep(DELAY)
                writer.write(data)
                await writer.drain()
