"""The trace of a request, which its job continues in a worker."""

import structlog
from fastapi.telemetry import TelemetryConfig
from opentelemetry import context, propagate, trace
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from contracts.tracing import traceparent

WATCHED = ("/healthz", "/readyz", "/metrics")  # asked for every few seconds, for ever


def is_watching(scope: Scope) -> bool:
    """Whether a request comes from what watches the gateway."""
    return str(scope.get("path", "")).endswith(WATCHED)


FASTAPI = TelemetryConfig(metrics=False, logs=False, operation_spans=False, auto_configure=False, exclude=is_watching)
"""FastAPI's own spans of requests, to where `configure_tracing` sends them; metrics and logs are ours."""


class TraceContext:
    """Takes on the trace that a client is in, for a gateway that traces nothing itself: its worker may."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http" or trace.get_current_span().get_span_context().is_valid:
            await self.app(scope, receive, send)
            return
        token = context.attach(propagate.extract(Headers(scope=scope)))
        try:
            await self.app(scope, receive, send)
        finally:
            context.detach(token)


def origin() -> dict[str, str | None]:
    """What a job's record keeps of the request under way."""
    return {"request_id": structlog.contextvars.get_contextvars().get("request_id"), "traceparent": traceparent()}
