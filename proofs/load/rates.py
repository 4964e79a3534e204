"""Requests that come as fast as they are answered, or at times of their own."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import httpx2

from proofs.jobs import Request

REFUSED = 429


@dataclass
class Answers:
    """What came back."""

    seconds: list[float] = field(default_factory=list)
    """How long the good answers took."""
    statuses: Counter[int] = field(default_factory=Counter)
    lasted: float = 0.0
    """Seconds from the first request to the last answer."""
    impolite: int = 0
    """Refusals without `Retry-After`."""

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.seconds) / self.lasted if self.lasted else 0.0

    async def ask(self, client: httpx2.AsyncClient, request: Request, wait: int) -> None:
        """Submit a job, wait for it, and note the answer."""
        path, body = request
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        begin = time.monotonic()
        try:
            answer = await client.post(path, json=body, headers=headers)
        except httpx2.HTTPError:
            self.statuses[0] += 1
            return
        self.statuses[answer.status_code] += 1
        self.impolite += answer.status_code == REFUSED and "retry-after" not in answer.headers
        if answer.is_success:
            self.seconds.append(time.monotonic() - begin)


async def in_turn(
    client: httpx2.AsyncClient, make: Callable[[int], Request], *, at_once: int, wait: int, seconds: float, most: int = 10**9
) -> Answers:
    """Let so many clients each send a request after the other, for a while or until there are enough."""
    found, begin, numbers = Answers(), time.monotonic(), itertools.count()

    async def one() -> None:
        while time.monotonic() - begin < seconds and (number := next(numbers)) < most:
            await found.ask(client, make(number), wait)

    await asyncio.gather(*(one() for _ in range(at_once)))
    found.lasted = time.monotonic() - begin
    return found


async def arriving(
    client: httpx2.AsyncClient, make: Callable[[int], Request], *, rate: float, wait: int, seconds: float, random: Random
) -> Answers:
    """Send requests at random times, `rate` a second, whether or not the others were answered."""
    found, begin, due = Answers(), time.monotonic(), 0.0
    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            due += random.expovariate(rate)
            if due > seconds:
                break
            await asyncio.sleep(max(0.0, begin + due - time.monotonic()))
            group.create_task(found.ask(client, make(number), wait))
    found.lasted = time.monotonic() - begin
    return found
