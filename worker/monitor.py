"""What a worker tells those who watch it: `/metrics` for Prometheus, `/healthz` for whoever restarts it when it hangs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from contracts.settings import BadSettingsError

TICK_SECONDS = 1.0
HANGS_AFTER = 30.0  # seconds without a tick of the event loop, which leases and heartbeats depend on

Respond = Callable[..., Any]


class Pulse:
    """When the event loop was last seen alive."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    async def beat_forever(self) -> None:
        """Beat as often as the event loop gets to it."""
        while True:
            self._at = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)

    @property
    def alive(self) -> bool:
        """Whether it was seen lately."""
        return time.monotonic() - self._at < HANGS_AFTER


class Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread, so that a slow reader holds up nobody."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """Logs no requests: there is one every few seconds, for ever."""

    timeout = 10  # seconds that a client may be silent

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name that it has there
        """Say nothing."""


@asynccontextmanager
async def watched(host: str, port: int, registry: CollectorRegistry) -> AsyncIterator[int]:
    """Answer on a port inside the `with`, 0 for a free one, which is yielded. BadSettingsError for one that is taken."""
    pulse, metrics = Pulse(), make_wsgi_app(registry)

    def app(environment: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        match environment["PATH_INFO"]:
            case "/metrics":
                return metrics(environment, respond)
            case "/healthz":
                return plain(respond, "200 OK" if pulse.alive else "503 Service Unavailable")
            case _:
                return plain(respond, "404 Not Found")

    try:
        server = make_server(host, port, app, Server, Quiet)
    except OSError as error:
        raise BadSettingsError(f"OVAM_METRICS_PORT={port}: cannot listen on {host}:{port}: {error.strerror}") from error
    thread = Thread(target=server.serve_forever, name="monitor", daemon=True)
    thread.start()
    beating = asyncio.create_task(pulse.beat_forever())
    try:
        yield server.server_port
    finally:
        beating.cancel()
        await asyncio.to_thread(server.shutdown)
        server.server_close()


def plain(respond: Respond, status: str) -> list[bytes]:
    """An answer that says its status."""
    respond(status, [("Content-Type", "text/plain")])
    return [f"{status}\n".encode()]
