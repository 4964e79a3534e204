"""A corpus of hostile bodies, files, headers, addresses and connections."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from proofs import jobs
from proofs.fuzz.asked import Asked, Tenant
from proofs.fuzz.corpus import BELOW_A_JOB, CONNECTIONS, HEADERS, METHODS, NUMBERS, SEGMENTS, VALUES
from proofs.jobs import Json, Request
from tests.service.test_bodies import BOMBS
from tests.service.test_decoding import progressive

AT_ONCE = 4
SILENT = 50  # connections that are opened and send nothing, or half of something, all the while
BOMB_SHARE = 0.02  # of the requests: each takes a gateway a while
PATIENCE = 60.0  # seconds
JSON = {"Content-Type": "application/json"}


class Attack:
    """Everything an attacker has: an address, a tenant's key, and what it knows of another's."""

    def __init__(self, client: httpx2.AsyncClient, url: str, asked: Asked, mine: Tenant, other: Tenant, random: Random) -> None:
        self.client, self.asked, self.mine, self.other, self.random = client, asked, mine, other, random
        self.host, self.port = urlsplit(url).hostname or "", urlsplit(url).port or 0

    async def send(self, source: str, method: str, path: str, headers: Json | None = None, body: bytes = b"") -> None:
        """Send a request and look at the answer."""
        label = f"{method} {path[:200]} {str(headers)[:200]} {body[:200]!r}"
        try:
            answer = await self.client.request(method, path, headers=headers, content=body)
        except (httpx2.LocalProtocolError, httpx2.InvalidURL, UnicodeError, ValueError):
            return  # the client refuses to send it
        except httpx2.HTTPError as error:
            self.asked.silent(source, label, error)
            return
        self.asked.answered(source, label, answer.status_code, answer.content)
        if answer.status_code >= 400 and method != "HEAD" and "json" not in answer.headers.get("content-type", ""):
            self.asked.wrong(source, label, f"{answer.status_code} is no problem: {answer.text[:200]}")
        if self.foreign(path, body) and answer.status_code < 400 and method != "OPTIONS":
            self.asked.touched(source, label, answer.status_code, answer.content)

    def foreign(self, path: str, body: bytes) -> bool:
        """Whether a request names a thing of the other tenant's."""
        return any(job in path or job.encode() in body for job in self.other.jobs)

    def request(self) -> Request:
        """A valid request, about an image of one's own or of the other tenant's."""
        number, random = random_number(self.random), self.random
        source = random.choice(self.other.jobs if random.random() < 0.2 else self.mine.jobs)
        return random.choice(
            [
                jobs.generate(number),
                jobs.image(number),
                jobs.attribute(number, source),
                jobs.probe(number, source),
                jobs.optimize(number, source),
                jobs.imports(number),
            ]
        )

    async def values(self) -> None:
        """A valid body with one or two values replaced."""
        path, body = self.request()
        for _ in range(self.random.randint(1, 2)):
            body = replaced(body, self.random.choice(VALUES), self.random)
        await self.send("hostile values", "POST", path, JSON, json.dumps(body).encode())

    async def files(self) -> None:
        """A valid body whose file is damaged: an image, a mask or a token."""
        number, random = random_number(self.random), self.random
        source = random.choice(self.mine.jobs)
        path, body = random.choice([jobs.image(number), jobs.imports(number), jobs.optimize(number, source)])
        if path == "/v1/images":
            body["image"] = damaged(body["image"], random)
        elif path == "/v1/tokens":
            forms = ("npy", "safetensors", "textual-inversion", "published")
            body |= {"file": damaged(body["file"], random), "format": random.choice(forms)}
        else:
            body["examples"][0]["mask"] = damaged(body["examples"][0]["mask"], random)
        await self.send("hostile files", "POST", path, JSON, json.dumps(body).encode())

    async def bodies(self) -> None:
        """A body that is no JSON, or not the one that was announced."""
        path, body = self.request()
        data = bytearray(json.dumps(body).encode())
        for _ in range(self.random.randint(1, 4)):
            data[self.random.randrange(len(data))] = self.random.randrange(256)
        cut = bytes(data[: self.random.randrange(len(data) + 1)]) if self.random.random() < 0.3 else bytes(data)
        await self.send("hostile bodies", "POST", path, JSON, cut)

    async def headers(self) -> None:
        """Headers that are odd, on an address that exists."""
        chosen = dict(self.random.sample(HEADERS, self.random.randint(1, 3)))
        await self.send("hostile headers", self.random.choice(("GET", "GET", "DELETE", "POST")), self.address(), chosen)

    async def addresses(self) -> None:
        """Methods and addresses that do not exist."""
        random = self.random
        paths = [
            "/" + "/".join(random.choices(SEGMENTS, k=random.randint(1, 6))),
            f"/v1/jobs/{random.choice(self.other.jobs)}{random.choice(BELOW_A_JOB)}",
            f"{self.address()}?{quote(str(random.choice(VALUES))[:3000], errors='replace')}={'a' * random.choice((1, 5000))}",
            f"/v1/jobs?limit={random.choice(NUMBERS)}&cursor={random.choice(SEGMENTS)}",
            f"/v1/tokens?cursor={random.choice(SEGMENTS)}",
            f"/v1/tokens/{random.choice(self.other.tokens)}/file",
        ]
        path = random.choice(paths)
        await self.send("hostile addresses", random.choice(METHODS), path)

    def address(self) -> str:
        """The path of something that exists."""
        job, token = self.random.choice(self.mine.jobs), self.random.choice(self.mine.tokens)
        own = [f"/v1/jobs/{job}/events", f"/v1/jobs/{job}/artifacts/image-0.png", f"/v1/tokens/{token}/file"]
        return self.random.choice([*own, "/v1/jobs", "/v1/models", "/metrics", "/healthz", "/docs", "/openapi.json"])

    async def bombs(self) -> None:
        """Millions of wrong values, deep nesting, images of many scans."""
        name = self.random.choice([*BOMBS, "scans"])
        path, body = BOMBS.get(name, ("/v1/images", b""))
        if name == "scans":
            image = base64.b64encode(progressive(self.random.choice((90, 2000)))).decode()
            body = json.dumps({"image": image}).encode()
        await self.send("bombs", "POST", path, JSON, body)

    async def connections(self) -> None:
        """Bytes that are no request, or only half of one; then the connection is cut, or left alone for a moment."""
        key, random = self.mine.headers["Authorization"], self.random
        sent = random.choice(CONNECTIONS).replace("{key}", key).encode("latin-1") + random.randbytes(random.choice((0, 0, 300)))
        if random.random() < 0.4:
            sent = sent[: random.randrange(len(sent))]
        with suppress(OSError, TimeoutError):
            async with connected(self.host, self.port) as (reader, writer), asyncio.timeout(self.random.choice((0.05, 0.5))):
                writer.write(sent)
                await writer.drain()
                data = await reader.read(4096)
                if data.startswith(b"HTTP/1.1 "):
                    self.asked.answered("connections", repr(sent[:200]), int(data[9:12]), data)
                    return
        self.asked.requests["connections"] += 1


async def attack(url: str, asked: Asked, mine: Tenant, other: Tenant, count: int, random: Random) -> None:
    """Send `count` hostile requests, a few at a time, beside connections that only stay."""
    limits = httpx2.Limits(max_connections=2 * AT_ONCE)
    async with (
        httpx2.AsyncClient(base_url=url, headers=mine.headers, timeout=PATIENCE, limits=limits) as client,
        silent_connections(url),
    ):
        there = Attack(client, url, asked, mine, other, random)
        kinds = [there.values] * 4 + [there.files] * 2 + [there.bodies, there.headers, there.addresses, there.connections]
        numbers = iter(range(count))

        async def attacker() -> None:
            for _ in numbers:
                await (there.bombs if random.random() < BOMB_SHARE else random.choice(kinds))()

        await asyncio.gather(*(attacker() for _ in range(AT_ONCE)))


@asynccontextmanager
async def silent_connections(url: str) -> AsyncIterator[None]:
    """Keep connections open that send nothing, or half a head, or half a body; new ones for those that the gateway closes."""
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
    starts = [b"", b"GET /heal", b"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"]

    async def one(start: bytes) -> None:
        while True:
            with suppress(OSError):
                async with connected(host, port) as (reader, writer):
                    writer.write(start)
                    await writer.drain()
                    await reader.read()
            await asyncio.sleep(0.5)

    tasks = [asyncio.create_task(one(starts[number % len(starts)])) for number in range(SILENT)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def connected(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, cut at the end of the block."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def replaced(value: Any, new: Any, random: Random) -> Any:  # noqa: ANN401
    """A copy of JSON with one value, at whatever depth, replaced; or with one added."""
    match value:
        case dict() if value and random.random() < 0.9:
            name = random.choice([*value])
            return {**value, name: replaced(value[name], new, random)}
        case dict():
            return {**value, random.choice(("a", "kind", "settings", "capture", "model", "image")): new}
        case [*_] if value and random.random() < 0.8:
            place = random.randrange(len(value))
            return [*value[:place], replaced(value[place], new, random), *value[place + 1 :]]
        case _:
            return new


def damaged(file: str, random: Random) -> str:
    """A file in base64 with some bytes changed, removed, or repeated."""
    data = bytearray(base64.b64decode(file))
    for _ in range(random.randint(1, 8)):
        place = random.randrange(min(len(data), 200) if random.random() < 0.7 else len(data))
        data[place] = random.choice((0, 1, 0x7F, 0xFF, random.randrange(256)))
    match random.randrange(5):
        case 0:
            data = data[: random.randrange(1, len(data))]
        case 1:
            place = random.randrange(len(data))
            data[place:place] = data[place : place + 64] * random.randint(1, 200)
        case _:
            pass
    return base64.b64encode(bytes(data)).decode()


def random_number(random: Random) -> int:
    """A number for a valid request."""
    return random.randrange(10**6)
