"""Hands jobs to workers as the gateway would, and watches what becomes of them."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from typing import Any, Self

import numpy as np
from docket import Docket
from PIL import Image
from redis.asyncio import Redis

from contracts import keys
from contracts.generation import GenerateRequest
from contracts.jobs import AnyRequest, JobRecord, State, kind_of, new_job_id, utc_now
from contracts.ledger import Ledger, write
from contracts.store import ArtifactStore
from worker.settings import WorkerSettings

PATIENCE = 90.0  # seconds; a busy machine takes half a minute to start a worker


async def run_job(job_id: str) -> None:
    """Stands for the workers' task: only its name and its argument count here."""


@dataclass
class Client:
    redis: Redis
    ledger: Ledger
    store: ArtifactStore
    dockets: dict[str, Docket]

    @classmethod
    @asynccontextmanager
    async def connected(cls, settings: WorkerSettings) -> AsyncIterator[Self]:
        dockets = {name: Docket(name=name, url=settings.redis_url) for name in keys.DOCKETS}
        async with Redis.from_url(settings.redis_url) as redis, dockets[keys.DOCKET], dockets[keys.INTERACTIVE]:
            for docket in dockets.values():
                docket.register(run_job, names=[keys.TASK])
            yield cls(redis, Ledger(redis), ArtifactStore.at(settings.store), dockets)

    async def record(self, request: AnyRequest, *, life: float = 3600, age: float = 0) -> JobRecord:
        """Write the record of a new job, `age` seconds old, without telling any docket of it."""
        made = utc_now() - timedelta(seconds=age)
        record = JobRecord(
            id=new_job_id(),
            kind=kind_of(request),
            state=State.QUEUED,
            request=request,
            created_at=made,
            expires_at=made + timedelta(seconds=life),
        )
        async with self.redis.pipeline(transaction=True) as pipe:
            write(pipe, record)
            pipe.zadd(keys.JOBS, {record.id: 0})
            pipe.zadd(keys.QUEUED, {record.id: made.timestamp() * 1000})
            await pipe.execute()
        return record

    async def submit(self, request: AnyRequest, *, life: float = 3600) -> str:
        record = await self.record(request, life=life)
        await self.dockets[keys.docket_of(record.kind)].add(keys.TASK, key=record.id)(record.id)
        return record.id

    async def when(self, job_id: str, holds: Callable[[JobRecord], bool]) -> JobRecord:
        """The record as soon as something holds of it."""
        deadline = time.monotonic() + PATIENCE
        record = await self.ledger.get(job_id)
        while not holds(record):
            assert time.monotonic() < deadline, f"still {record}"
            await asyncio.sleep(0.01)
            record = await self.ledger.get(job_id)
        return record

    async def ended(self, job_id: str) -> JobRecord:
        return await self.when(job_id, lambda record: record.state.final)

    async def run(self, request: AnyRequest) -> JobRecord:
        return await self.ended(await self.submit(request))

    async def generated(self, **fields: Any) -> JobRecord:
        """A small generate job that succeeded."""
        request = GenerateRequest(**{"prompt": "a photograph of a cat", "seed": 1, "num_inference_steps": 3, **fields})
        record = await self.run(request)
        assert record.state is State.SUCCEEDED, record.error
        return record

    async def events(self, job_id: str) -> list[dict[str, Any]]:
        return [json.loads(event[b"data"]) for _, event in await self.redis.xrange(keys.events(job_id))]

    async def stored(self, folder: str) -> list[str]:
        return [key async for key in self.store.keys_below(folder)]

    async def artifact(self, record: JobRecord, name: str) -> bytes:
        data = await self.store.get(f"{keys.attempt_folder(record.id, record.attempt)}/{name}")
        assert data is not None, name
        return data


async def soon(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not await holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def base64_mask(mask: np.ndarray) -> str:
    """A boolean mask as the clients send it."""
    buffer = BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def left_half(size: int = 64) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    mask[:, : size // 2] = True
    return mask
