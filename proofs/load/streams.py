"""Many who follow jobs on one gateway."""

import asyncio
import json

import httpx2

from proofs import jobs

JOBS = 20
PATIENCE = 60.0  # seconds


async def followed(client: httpx2.AsyncClient, count: int) -> int:
    """Open `count` streams of a few jobs; how many of them ended with the job's last event."""
    ids = []
    for number in range(JOBS):
        path, body = jobs.generate(number)
        ids.append((await client.post(path, json=body)).raise_for_status().json()["id"])
    ends = await asyncio.gather(*(ended(client, ids[number % JOBS]) for number in range(count)))
    return sum(ends)


async def ended(client: httpx2.AsyncClient, job_id: str) -> bool:
    """Follow a job; whether the last event says that it succeeded."""
    state = ""
    try:
        async with asyncio.timeout(PATIENCE), client.stream("GET", f"/v1/jobs/{job_id}/events", timeout=PATIENCE) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    state = json.loads(line.removeprefix("data:"))["state"]
    except (httpx2.HTTPError, TimeoutError):
        return False
    return state == "succeeded"
