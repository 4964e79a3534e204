"""An app, and a client for it: in one process, or over a socket."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import httpx2
from fastapi import FastAPI

from service.app import create_app
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
    """Assert that this is a problem of that code, documented where it was met, naming that field; returns it."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    found = answer.json()
    assert (found["code"], found["status"], found["type"]) == (code, status, f"/problems/{code}")
    assert found["title"]
    assert found["detail"]
    if field is not None:
        assert field in [error["field"] for error in found["errors"]], found
    for codes in documented(answer.request.method, answer.request.url.path):
        assert code in codes, f"{code} is not documented for {answer.request.method} {answer.request.url.path}"
    return found


def documented(method: str, path: str) -> list[set[str]]:
    """The codes that the API's description tells of the operation at a path; none where there is no operation."""
    return [codes for verb, pattern, codes in operations() if verb == method and pattern.fullmatch(path)]


@cache
def operations() -> list[tuple[str, re.Pattern[str], set[str]]]:
    """Every operation's method, path and codes of problems, as the API describes itself."""
    return [
        (method.upper(), re.compile(re.sub(r"{\w+}", "[^/]+", path)), codes_of(operation))
        for path, item in create_app(GatewaySettings(keys="required")).openapi()["paths"].items()
        for method, operation in item.items()
    ]


def codes_of(operation: Json) -> set[str]:
    """The codes of problems that the description of an operation shows."""
    answers = [answer.get("content", {}).get("application/problem+json", {}) for answer in operation["responses"].values()]
    return {code for answer in answers for code in answer.get("examples", {})}
