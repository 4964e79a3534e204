"""An app, and a client for it: in one process, or over a socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from fastapi import FastAPI

from service.server import server_of
from service.settings import GatewaySettings

Json = dict[str, Any]
Traces = Callable[[], Awaitable[tuple[int, ...]]]


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that calls the app directly."""
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx2.ASGITransport(app=with_state)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


@asynccontextmanager
async def served(app: FastAPI, settings: GatewaySettings | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a real server on a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = server_of(app, settings or GatewaySettings())
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        port = listener.getsockname()[1]
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield client
        server.should_exit = True
        await task


def assert_problem(answer: httpx2.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """Assert that this is a problem of that code, naming that field; returns it."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    found = answer.json()
    assert (found["code"], found["status"], found["type"]) == (code, status, f"/problems/{code}")
    assert found["title"]
    assert found["detail"]
    if field is not None:
        assert field in [error["field"] for error in found["errors"]], found
    return found
