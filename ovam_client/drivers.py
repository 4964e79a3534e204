"""What carries out the steps of flows over HTTP: one driver that blocks, one that awaits."""

import asyncio
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2

from ovam_client.errors import OvamServiceError
from ovam_client.flows import Call, Fetch, Flow, Listen, NextLine, Pause, Step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

URL, KEY = "OVAM_URL", "OVAM_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
T = TypeVar("T")


class AddressError(OvamServiceError, ValueError):
    """The address or the key of a service cannot be used; the message says which, and what is allowed."""

    code = "bad-address"


@dataclass(frozen=True)
class Address:
    """Where a service is, and as whom it is asked."""

    url: str
    key: str | None
    timeout: float
    """Seconds without an answer that are an error."""

    @staticmethod
    def of(url: str | None, key: str | None, timeout: float) -> "Address":
        """The address that is given, else that of OVAM_URL and OVAM_API_KEY. Raises AddressError."""
        url = (url or os.environ.get(URL) or DEFAULT_URL).rstrip("/")
        key = os.environ.get(KEY) if key is None else key
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise AddressError(f"the service's address is {url!r}: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise AddressError(f"the service's address is {url!r}; allowed: http://host:port or https://host, see {URL}")
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise AddressError(f"the API key has characters that no key has; see {KEY}")
        return Address(url, key or None, timeout)

    def options(self, version: str) -> dict[str, Any]:
        """What an HTTP client is made with."""
        headers = {"User-Agent": f"ovam-client/{version}"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return {"base_url": self.url, "headers": headers, "timeout": self.timeout}

    def __repr__(self) -> str:
        """The address without the key."""
        return f"Address({self.url!r})"


def request_of(step: Call) -> dict[str, Any]:
    """The arguments of a request."""
    headers, body = dict(step.headers), {}
    if step.json is not None:
        headers["Content-Type"], body = "application/json", {"content": encoded(step.json)}
    return {"method": step.method, "url": step.path, "params": dict(step.params), "headers": headers, **body}


def encoded(body: Any) -> bytes:  # noqa: ANN401  # whatever JSON has
    """A body as JSON. Raises ValueError for what JSON has no form for, which it names."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:  # of which Unicode's is one
        wrong = next(unsendable(body), None)
        if wrong is None:
            raise
        raise ValueError("{} is {!r}; allowed: {}".format(*wrong)) from error


def unsendable(value: Any, path: str = "") -> Iterator[tuple[str, Any, str]]:  # noqa: ANN401  # whatever JSON has
    """The places in a body that JSON in UTF-8 has no form for, with what is there and what may be."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path, value, "a finite number"
    elif isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        yield path, value, "text in Unicode"
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from unsendable(each, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from unsendable(each, f"{path}.{number}".lstrip("."))


def stream_of(step: Listen, timeout: float) -> dict[str, Any]:
    """The arguments of a request for a stream."""
    return {"method": "GET", "url": step.path, "headers": step.headers, "timeout": httpx2.Timeout(timeout, read=step.silence)}


class Driver:
    """Carries out steps one after the other."""

    def __init__(self, address: Address, version: str) -> None:
        self.timeout = address.timeout
        self.http = httpx2.Client(**address.options(version))

    def run(self, flow: Flow[T]) -> T:  # a case each
        """Carry out a flow. Whatever happens during a step is told to the flow, which may ask for more before it ends."""
        outcome, failure = None, None
        lines: Iterator[str] = iter(())
        with ExitStack() as stream:
            while True:
                try:
                    step: Step = flow.send(outcome) if failure is None else flow.throw(failure)
                except StopIteration as end:
                    return end.value
                outcome = failure = None
                try:
                    match step:
                        case Call():
                            outcome = self.http.request(**request_of(step))
                        case Listen():
                            stream.close()
                            outcome = stream.enter_context(self.http.stream(**stream_of(step, self.timeout)))
                            lines = outcome.iter_lines()
                            if not outcome.is_success:
                                outcome.read()
                        case NextLine():
                            outcome = next(lines, None)
                        case Pause():
                            time.sleep(step.seconds)
                        case Fetch():
                            outcome = self._fetched(step)
                except BaseException as error:  # noqa: BLE001  # also Ctrl-C, after which a flow may cancel its job
                    failure = error

    def _fetched(self, step: Fetch) -> httpx2.Response:
        with self.http.stream("GET", step.path, params=dict(step.params)) as answer:
            if answer.is_success:
                step.file.writelines(answer.iter_bytes())
            else:
                answer.read()
        return answer

    def close(self) -> None:
        """Close all connections."""
        self.http.close()


class AsyncDriver:
    """Awaits steps."""

    def __init__(self, address: Address, version: str) -> None:
        self.timeout = address.timeout
        self.http = httpx2.AsyncClient(**address.options(version))

    async def run(self, flow: Flow[T]) -> T:  # a case each
        """Carry out a flow. Whatever happens during a step is told to the flow, which may ask for more before it ends."""
        outcome, failure = None, None
        lines: AsyncIterator[str] | None = None
        async with AsyncExitStack() as stream:
            while True:
                try:
                    step: Step = flow.send(outcome) if failure is None else flow.throw(failure)
                except StopIteration as end:
                    return end.value
                outcome = failure = None
                try:
                    match step:
                        case Call():
                            outcome = await self.http.request(**request_of(step))
                        case Listen():
                            await stream.aclose()
                            outcome = await stream.enter_async_context(self.http.stream(**stream_of(step, self.timeout)))
                            lines = outcome.aiter_lines()
                            if not outcome.is_success:
                                await outcome.aread()
                        case NextLine():
                            outcome = await anext(lines, None) if lines is not None else None
                        case Pause():
                            await asyncio.sleep(step.seconds)
                        case Fetch():
                            outcome = await self._fetched(step)
                except BaseException as error:  # noqa: BLE001  # also a cancelled task, after which a flow may cancel its job
                    failure = error

    async def _fetched(self, step: Fetch) -> httpx2.Response:
        async with self.http.stream("GET", step.path, params=dict(step.params)) as answer:
            if answer.is_success:
                async for piece in answer.aiter_bytes():
                    step.file.write(piece)
            else:
                await answer.aread()
        return answer

    async def aclose(self) -> None:
        """Close all connections."""
        await self.http.aclose()
