"""The server under the app: uvicorn, with an end that leaves nobody without an answer."""

import sys
from contextlib import suppress
from socket import socket

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from service.app import create_app
from service.settings import GatewaySettings

GRACE = 3  # seconds that open connections have when the gateway stops


class PatientServer(uvicorn.Server):
    """Lets go of those who wait before connections have to end: they get the job as it is."""

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop."""
        self.lifespan.state["resources"].events.stop()
        await super().shutdown(sockets)


def server_of(app: FastAPI, settings: GatewaySettings) -> PatientServer:
    """A server for an app."""
    return PatientServer(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            ws="none",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=GRACE,
        )
    )


def run(settings: GatewaySettings) -> None:
    """Serve until a signal comes; leave as uvicorn does if it cannot start."""
    server = server_of(create_app(settings), settings)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)
