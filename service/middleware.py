"""Around every request: an id, a log line, a measured time, and an answer whatever happens."""

import asyncio
import contextlib
import re
import secrets
import time

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.schema.errors import Code, ServiceError
from service import problems
from service.observability import Metrics
from service.tracing import is_watching

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
CLIENT_LEFT = 499  # the status, in logs and metrics, of a request that its client did not send to its end
FAULT = 400  # the least status that is one
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
log = structlog.get_logger("ovam.access")


class RootPath:
    """Tells the app the path under which a proxy serves it, whether or not the proxy takes it off."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self.app = app
        self.path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; as ASGI has it, its path begins with the root path."""
        if scope["type"] == "http":
            path = scope["path"]
            whole = path if path.startswith(f"{self.path}/") else f"{self.path}{path}"
            scope = {**scope, "path": whole, "root_path": self.path}
        await self.app(scope, receive, send)


class HeadAsGet:
    """Answers HEAD as GET, without the body: a body that comes in pieces is given up after the first."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        answered = asyncio.Event()

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
            elif message["type"] == "http.response.body" and not answered.is_set():
                await send({"type": "http.response.body", "body": b""})
                answered.set()

        work = asyncio.ensure_future(self.app({**scope, "method": "GET"}, receive, without_body))
        waiting = asyncio.ensure_future(answered.wait())
        try:
            await asyncio.wait([work, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, waiting):
                task.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        with contextlib.suppress(asyncio.CancelledError):
            await work


class Observed:
    """Gives every request an id, logs and measures it, and answers when the app could not."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = header(scope, b"x-request-id")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        begun, status = time.perf_counter(), 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        structlog.contextvars.clear_contextvars()  # what an earlier request of the same connection has bound
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, observed)
            except ClientDisconnect:
                status = CLIENT_LEFT
            except Exception:
                log.exception("unexpected", method=scope["method"], path=scope["path"])
                if status:
                    raise
                error = ServiceError(Code.INTERNAL, f"something unexpected happened; it is logged with request id {request_id}")
                await problems.answer_to(error, problems.Address.of(scope))(scope, receive, observed)
            finally:
                seconds = time.perf_counter() - begun
                self.metrics.latency.labels(method_of(scope), route_of(scope), str(status)).observe(seconds)
                note = log.debug if is_watching(scope) and status < FAULT else log.info
                note("request", method=scope["method"], path=scope["path"], status=status, seconds=round(seconds, 4))


def header(scope: Scope, name: bytes) -> str:
    """A request's header, or nothing."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def method_of(scope: Scope) -> str:
    """A method that HTTP knows: few values, whatever clients invent."""
    return scope["method"] if scope["method"] in METHODS else "other"


def route_of(scope: Scope) -> str:
    """The pattern that a path matched: few values, whatever clients request."""
    return getattr(scope.get("route"), "path", "none")
