"""Tenants who want jobs of all kinds done, insist on it, and keep books of what they were told."""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

import httpx2

from proofs import jobs
from proofs.claims import Log
from proofs.jobs import Request

TENANTS = ("red", "green", "blue")
USERS = 4  # of a tenant, each with one job at a time
INSIST_FOR = 240.0  # seconds; then a request, or a job, is stuck
RETRY_PAUSE = 0.3  # seconds
POLL = 0.25  # seconds
TRY_AGAIN = (429, 502, 503, 504)
EXPECTED = {200, 201, 202, 204, 409, *TRY_AGAIN}
KINDS = {"generate": 5, "image": 2, "attribute": 5, "probe": 3, "optimize": 2, "import": 2}
"""Each with its share of the jobs."""

Fate = Literal["end", "cancel", "delete"]
FATES: tuple[Fate, ...] = ("end", "cancel", "delete")


class StuckError(Exception):
    """Something did not happen in time."""


@dataclass
class Entry:
    """A job that a client wants, and what it was told about it."""

    tenant: str
    kind: str
    request: Request
    key: str
    """The `Idempotency-Key`."""
    fate: Fate
    job_id: str = ""
    ended: str = ""
    """The state in which it ended, as its client was told."""
    last_events: int = 0
    """How often a follower was told of the end."""


@dataclass
class Books:
    """What all clients were told."""

    entries: list[Entry] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    """By status and code."""
    surprises: list[str] = field(default_factory=list)
    """Answers that nobody should get, whatever fails."""
    unanswered: int = 0
    """Requests whose connection failed."""

    def unfinished(self) -> Iterator[str]:
        """The ids of jobs whose end nobody was told of."""
        return (entry.job_id for entry in self.entries if entry.job_id and not entry.ended)

    def sources(self) -> dict[str, list[str]]:
        """The jobs of each tenant that have images."""
        found = defaultdict[str, list[str]](list)
        for entry in self.entries:
            if entry.kind in ("generate", "image") and entry.ended == "succeeded" and entry.fate == "end":
                found[entry.tenant].append(entry.job_id)
        return found


class Tenant:
    """One tenant's way to all gateways."""

    def __init__(self, name: str, clients: list[httpx2.AsyncClient], books: Books, random: Random) -> None:
        self.name = name
        self.clients = clients
        self.books = books
        self.random = random

    async def insist(self, method: str, path: str, **request: Any) -> httpx2.Response:  # noqa: ANN401
        """Ask one gateway after the other until one answers. StuckError."""
        deadline = time.monotonic() + INSIST_FOR
        while time.monotonic() < deadline:
            try:
                answer = await self.random.choice(self.clients).request(method, path, **request)
            except httpx2.HTTPError:
                self.books.unanswered += 1
            else:
                code = code_of(answer)
                self.books.answers[f"{answer.status_code} {code}".strip()] += 1
                if answer.status_code not in TRY_AGAIN and code != "idempotency-key-in-flight":
                    return self.expected(answer)
            await asyncio.sleep(RETRY_PAUSE)
        raise StuckError(f"{method} {path} got no answer in {INSIST_FOR:.0f} s")

    def expected(self, answer: httpx2.Response) -> httpx2.Response:
        """The answer; noted if it is none that a good client may get."""
        if answer.status_code not in EXPECTED:
            self.books.surprises.append(
                f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:300]}"
            )
        return answer

    async def want(self, entry: Entry) -> None:
        """Have a job done, and see to its end. StuckError."""
        path, body = entry.request
        headers = {"Idempotency-Key": entry.key} | ({"Prefer": "wait=2"} if self.random.random() < 0.3 else {})
        record = (await self.insist("POST", path, json=body, headers=headers)).json()
        if "id" not in record:
            entry.ended = f"refused: {record.get('code')}"
            return
        entry.job_id = record["id"]
        if entry.fate == "cancel":
            await self.insist("POST", f"/v1/jobs/{entry.job_id}/cancel")
        entry.ended = await (self.followed(entry) if self.random.random() < 0.5 else self.polled(entry))
        if entry.fate == "delete":
            await self.insist("DELETE", f"/v1/jobs/{entry.job_id}")

    async def polled(self, entry: Entry) -> str:
        """Ask for the record until the job has ended; the state."""
        deadline = time.monotonic() + INSIST_FOR
        while time.monotonic() < deadline:
            record = (await self.insist("GET", f"/v1/jobs/{entry.job_id}")).json()
            if record.get("state") not in ("queued", "running"):
                return record.get("state", "unknown")
            await asyncio.sleep(POLL)
        raise StuckError(f"job {entry.job_id} ({entry.kind}) did not end in {INSIST_FOR:.0f} s")

    async def followed(self, entry: Entry) -> str:
        """Follow the events until the last one, again after each break from the last one seen; the state."""
        last, state, deadline = {}, "", time.monotonic() + INSIST_FOR
        while time.monotonic() < deadline:
            try:
                path = f"/v1/jobs/{entry.job_id}/events"
                async with self.random.choice(self.clients).stream("GET", path, headers=last) as stream:
                    async for line in stream.aiter_lines():
                        if line.startswith("id:"):
                            last = {"Last-Event-ID": line.removeprefix("id:").strip()}
                        elif line.startswith("data:") and (state := json.loads(line.removeprefix("data:"))["state"]):
                            entry.last_events += state not in ("queued", "running")
            except (httpx2.HTTPError, ValueError):
                self.books.unanswered += 1
            if entry.last_events:
                return state
            await asyncio.sleep(RETRY_PAUSE)
        raise StuckError(f"job {entry.job_id} ({entry.kind}): no last event in {INSIST_FOR:.0f} s")


def code_of(answer: httpx2.Response) -> str:
    """The code of a problem; empty for other answers."""
    return answer.json()["code"] if answer.headers.get("content-type") == "application/problem+json" else ""


def entry(number: int, tenant: str, sources: list[str], random: Random, run: str) -> Entry:
    """The next job that a tenant wants."""
    kind = random.choices([*KINDS], [*KINDS.values()])[0] if sources else "generate"
    source = random.choice(sources) if sources else ""
    match kind:
        case "generate":
            request = jobs.generate(number, steps=random.randint(3, 30))
        case "image":
            request = jobs.image(number)
        case "attribute":
            request = jobs.attribute(number, source)
        case "probe":
            request = jobs.probe(number, source)
        case "optimize":
            request = jobs.optimize(number, source, epochs=random.randint(3, 20))
        case _:
            request = jobs.imports(number)
    fate = random.choices(FATES, (92, 5, 3))[0]
    return Entry(tenant, kind, request, f"{run}-{number}", fate)


async def work(
    urls: list[str], keys: dict[str, str], count: int, pace: float, books: Books, random: Random, log: Log, over: asyncio.Event
) -> None:
    """Let all tenants' users have `count` jobs done, at `pace` jobs a second until `over`, then as fast as they come."""
    numbers, begin = iter(range(count)), time.monotonic()

    async def user(tenant: Tenant) -> None:
        for number in numbers:
            while not over.is_set() and time.monotonic() - begin < number / pace:
                await asyncio.sleep(0.1)
            wanted = entry(number, tenant.name, books.sources()[tenant.name], random, f"chaos-{begin:.0f}")
            books.entries.append(wanted)
            try:
                await tenant.want(wanted)
            except StuckError as error:
                log.write("stuck", error=str(error))
            log.write("job", id=wanted.job_id, kind=wanted.kind, tenant=wanted.tenant, fate=wanted.fate, ended=wanted.ended)

    async with AsyncExitStack() as stack:
        users = []
        for name, key in keys.items():
            headers = {"Authorization": f"Bearer {key}"}
            clients = [
                await stack.enter_async_context(httpx2.AsyncClient(base_url=url, headers=headers, timeout=10)) for url in urls
            ]
            users += [user(Tenant(name, clients, books, random)) for _ in range(USERS)]
        await asyncio.gather(*users)
