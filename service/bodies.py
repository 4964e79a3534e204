"""Bodies of requests: read within bounds of size, time and memory, and validated without holding up other requests.

A body is bounded before it is parsed: in bytes, and in values and fields, which the characters between them count at a
gigabyte a second. What is left to validate takes some ten milliseconds, and more than a small body is validated in a thread, one
body at a time, so that other requests are answered in between.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from pydantic_core import from_json

from contracts.schema.attribute import AttributeRequest
from contracts.schema.datasets import DatasetRequest
from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Schema
from contracts.schema.images import GenerateRequest, ImageRequest
from contracts.schema.optimize import OptimizeRequest
from contracts.schema.tokens import ImportRequest
from service.forms import boundary_of, fields_of
from service.integrations.label_studio.shapes import Event, Predict
from service.integrations.x_shapes import PredictRequest

SMALL = 2**16  # bytes, read and validated without further ado
PATIENCE = 20.0  # seconds for a body to come, and more for what has come of it:
LEAST_RATE = 2**16  # bytes per second
UNBOUNDED = 2**40  # bytes: the deployment's limit alone counts
LARGE_AT_A_TIME = 4  # bodies that are more than small: each takes several times its size in memory
BUSY_FOR = 20.0  # seconds that one more waits for its turn
RETRY_AFTER = 5  # seconds
NAMED = tuple(before + b":" for before in (b'"', b" ", b"\t", b"\n", b"\r"))  # the end of a field's name, or the like in a text
JSON_TYPE = (b"content-type", b"application/json")
JSON = re.compile(r"application/([a-z0-9.-]+\+)?json")


@dataclass(frozen=True)
class Bounds:
    """How much a body may hold."""

    bytes: int
    """Or the deployment's limit, whichever is less."""
    values: int = 10_000
    fields: int = 4096
    """Of all objects."""


BODILESS = Bounds(2**14)
USUAL = Bounds(2**18)  # enough for the longest of all others
FORM = Bounds(UNBOUNDED)  # images in it
UNUSUAL: dict[type, Bounds] = {
    AttributeRequest: Bounds(2**22, 200_000),  # an embedding of 77 rows and 2048 columns
    GenerateRequest: Bounds(UNBOUNDED, 400_000),  # the same, images, and a mask
    OptimizeRequest: Bounds(UNBOUNDED, 400_000),  # run lengths, polygons
    ImageRequest: Bounds(UNBOUNDED),
    ImportRequest: Bounds(UNBOUNDED),
    DatasetRequest: Bounds(UNBOUNDED, 1_000_000),  # prompts, with commas in them
    Predict: Bounds(UNBOUNDED, 100_000, 50_000),  # what is known of each task
    PredictRequest: Bounds(UNBOUNDED),
    Event: Bounds(UNBOUNDED, 5_000_000, 50_000),  # brush masks: a number for each byte
}


@dataclass(frozen=True)
class Turns:
    """Who may read a large body, and whose is validated."""

    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_AT_A_TIME))
    validating: asyncio.Lock = field(default_factory=asyncio.Lock)


class BodyRequest(Request):
    """A request whose body was read and validated: FastAPI finds the model where it looks for JSON, and takes it as it is."""

    def __init__(self, http: Request, model: Schema | None) -> None:
        others = [(name, value) for name, value in http.scope["headers"] if name != b"content-type"]
        super().__init__({**http.scope, "headers": [*others, JSON_TYPE]}, http.receive)  # a form is one no more
        self.model = model

    async def body(self) -> bytes:
        """Whether there is a body at all."""
        return b"" if self.model is None else b"{}"

    async def json(self) -> Schema | None:
        """The model."""
        return self.model


class BodyRoute(APIRoute):
    """A route whose body is read and validated here, before FastAPI sees the request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()
        # pyrefly: ignore[bad-assignment]  # every body is declared as one class
        schema: type[Schema] | None = self.body_field.field_info.annotation if self.body_field else None
        bounds = BODILESS if schema is None else FORM if getattr(schema, "TAKES_FORMS", False) else UNUSUAL.get(schema, USUAL)

        async def bounded(http: Request) -> Response:
            if http.method == "GET":
                return await handle(http)
            forms = getattr(schema, "TAKES_FORMS", False)
            boundary = boundary_of(http.headers.get("content-type", "")) if forms else None
            if schema is not None:
                check_plain(http)
                if boundary is None:
                    check_json(http, forms=forms)
            limit = min(bounds.bytes, http.state.resources.settings.max_body_bytes)
            async with read(http, limit, http.state.resources.turns) as body:
                model = await validated(schema, body, bounds, http.state.resources.turns, boundary) if schema and body else None
                body.clear()
                return await handle(BodyRequest(http, model))

        return bounded


def check_plain(http: Request) -> None:
    """Raise unsupported-media-type for a body that is declared as compressed."""
    declared = http.headers.get("content-encoding", "").strip().lower()
    if declared not in ("", "identity"):
        detail = f"the body is declared as compressed, {declared!r}; send it without `Content-Encoding`"
        raise ServiceError(Code.UNSUPPORTED_MEDIA_TYPE, detail, field="Content-Encoding", value=declared)


def check_json(http: Request, *, forms: bool) -> None:
    """Raise unsupported-media-type unless the body is declared as JSON, where a form would be one with a boundary."""
    declared = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not JSON.fullmatch(declared):
        allowed = "`Content-Type: application/json`" + (", or `multipart/form-data` with its boundary" if forms else "")
        detail = f"the body is declared as {declared or 'nothing'!r}; send {allowed}"
        raise ServiceError(Code.UNSUPPORTED_MEDIA_TYPE, detail, field="Content-Type", value=declared)


@asynccontextmanager
async def read(http: Request, limit: int, turns: Turns) -> AsyncIterator[bytearray]:
    """The whole body. One that is more than small has a turn until its request was handled.

    Raises body-too-large, body-too-slow, gateway-busy, and starlette's ClientDisconnect for a body that was cut off.
    """
    declared = http.headers.get("content-length", "0")
    if len(declared) > len(str(limit)) or int(declared) > limit:
        raise too_large(limit)
    body, turn = bytearray(), False
    try:
        async for piece in pieces(http, body):
            if not turn and len(body) + len(piece) > SMALL:
                turn = await taken(turns.reading)
            body += piece
            if len(body) > limit:
                raise too_large(limit)
        yield body
    finally:
        if turn:
            turns.reading.release()


async def pieces(http: Request, come: bytearray) -> AsyncIterator[bytes]:
    """What comes of a body after `come`. Raises body-too-slow; the time that is spent on a piece does not count."""
    stream, waited = http.stream(), 0.0
    clock = asyncio.get_running_loop().time
    while True:
        begun = clock()
        try:
            async with asyncio.timeout(PATIENCE + len(come) / LEAST_RATE - waited):
                piece = await anext(stream, None)
        except TimeoutError:
            detail = f"only {len(come)} bytes of the body came in {waited + clock() - begun:.0f} seconds; send it faster"
            raise ServiceError(Code.BODY_TOO_SLOW, detail) from None
        if piece is None:
            return
        waited += clock() - begun
        yield piece


async def taken(turn: asyncio.Semaphore) -> bool:
    """True, once it is the turn of a large body. Raises gateway-busy."""
    try:
        async with asyncio.timeout(BUSY_FOR):
            return await turn.acquire()
    except TimeoutError:
        detail = f"{LARGE_AT_A_TIME} other large requests are being read; try again later"
        raise ServiceError(Code.GATEWAY_BUSY, detail, retry_after=RETRY_AFTER) from None


async def validated(schema: type[Schema], body: bytearray, bounds: Bounds, turns: Turns, boundary: bytes | None = None) -> Schema:
    """What a body says. Raises what `parsed` raises."""
    if len(body) <= SMALL:
        return parsed(schema, body, bounds, boundary)
    async with turns.validating:
        return await asyncio.to_thread(parsed, schema, body, bounds, boundary)


def parsed(schema: type[Schema], body: bytearray, bounds: Bounds, boundary: bytes | None = None) -> Schema:
    """What a body says, JSON or a form with that `boundary`.

    Raises body-too-large for too many values, invalid-json, and FastAPI's RequestValidationError.
    """
    content = in_json(body, bounds) if boundary is None else fields_of(body, boundary)
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        raise RequestValidationError(found, body=content) from error


def in_json(body: bytearray, bounds: Bounds) -> Any:  # noqa: ANN401  # whatever it is
    """What a body in JSON holds, once it is known to be not too much."""
    for kind, there, most in (("values", values(body), bounds.values), ("fields", fields(body), bounds.fields)):
        if there > most:
            raise ServiceError(Code.BODY_TOO_LARGE, f"the body has more than {most:,} {kind}, which no request needs")
    try:
        return from_json(body, cache_strings="keys")
    except ValueError as error:
        raise ServiceError(Code.INVALID_JSON, f"the body is not JSON in UTF-8: {error}") from error


def values(body: bytearray) -> int:
    """How many values there are at most."""
    return sum(body.count(mark) for mark in b",[{")


def fields(body: bytearray) -> int:
    """How many fields there are at most. JSON within a text, whose quotes are escaped, does not count, nor do its colons."""
    within = body.count(b'\\":') - body.count(b'\\\\":')  # an escaped quote, unless the backslash itself is escaped
    return sum(body.count(end) for end in NAMED) - within


def too_large(limit: int) -> ServiceError:
    """The problem of a body of more bytes than allowed here."""
    return ServiceError(Code.BODY_TOO_LARGE, f"the body has more than {limit} bytes")
