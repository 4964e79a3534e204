"""The server under the app: uvicorn, with time limits for connections, and an end that leaves nobody without an answer."""

import asyncio
import sys
from contextlib import suppress
from socket import socket

import uvicorn
from fastapi import FastAPI
from h11 import IDLE
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.app import create_app
from service.memory import return_large_blocks
from service.settings import GatewaySettings

HEAD_WITHIN = 10.0  # seconds for the whole head of a request, from the opening of a connection or the first byte of the next
READ_WITHIN = 60.0  # seconds without a client reading anything of an answer
GRACE = 3  # seconds that open connections have when the gateway stops


class PatientServer(uvicorn.Server):
    """Lets go of those who wait before connections have to end: they get the job as it is."""

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop."""
        self.lifespan.state["resources"].events.stop()
        await super().shutdown(sockets)


class LimitedProtocol(H11Protocol):
    """uvicorn's connection, which also ends when its client does not send, or does not read."""

    head: asyncio.TimerHandle | None = None
    reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[bad-override]
        """Wait for the first request."""
        super().connection_made(transport)
        self.watch_head()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of a head, if there is no whole one yet."""
        super().data_received(data)
        self.watch_head()

    def watch_head(self) -> None:
        """Give the client time while there is no whole head; not more of it with every byte."""
        waits = self.conn.their_state is IDLE
        if waits and self.head is None:
            self.head = self.loop.call_later(HEAD_WITHIN, self.timeout_keep_alive_handler)
        elif not waits:
            self.head = canceled(self.head)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self.reading = self.loop.call_later(READ_WITHIN, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        self.reading = canceled(self.reading)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self.head, self.reading = canceled(self.head), canceled(self.reading)
        super().connection_lost(exc)


def canceled(timer: asyncio.TimerHandle | None) -> None:
    """Cancel a timer, if there is one."""
    if timer is not None:
        timer.cancel()


def server_of(app: FastAPI, settings: GatewaySettings) -> PatientServer:
    """A server for an app."""
    return PatientServer(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=LimitedProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=GRACE,
        )
    )


def run(settings: GatewaySettings) -> None:
    """Serve until a signal comes; leave as uvicorn does if it cannot start."""
    return_large_blocks()
    server = server_of(create_app(settings), settings)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)
