"""Hands jobs to workers as the gateway would, and watches what becomes of them."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from io import BytesIO
from typing import Any, Self

import numpy as np
from docket import Docket
from PIL import Image
from redis.asyncio import Redis

import ovam
from contracts.schema.images import ImagesResult
from contracts.schema.jobs import AnyJob, JobRecord, State
from contracts.schema.models import ModelCard
from contracts.schema.optimize import MaskExample
from contracts.schema.targets import Target
from contracts.state import keys
from contracts.state.connections import redis_at
from contracts.state.dockets import JobDocket, enqueue
from contracts.state.ledger import Ledger, write
from contracts.state.requests import split
from contracts.state.store import ArtifactStore
from tests.worker.jobs import attribution, generation, optimization, probing
from worker.cards import read_card
from worker.settings import WorkerSettings

PATIENCE = 90.0  # seconds; a busy machine takes half a minute to start a worker


async def run_job() -> None:
    """Stands for the workers' task: only its name counts here."""


@dataclass
class Client:
    redis: Redis
    ledger: Ledger
    store: ArtifactStore
    dockets: dict[str, Docket]
    settings: WorkerSettings

    @classmethod
    @asynccontextmanager
    async def connected(cls, settings: WorkerSettings) -> AsyncIterator[Self]:
        dockets = {name: JobDocket(name=name, url=settings.redis_url) for name in keys.DOCKETS}
        async with redis_at(settings.redis_url) as redis, AsyncExitStack() as stack:
            for docket in dockets.values():
                await stack.enter_async_context(docket)
                docket.register(run_job, names=[keys.TASK])
            yield cls(redis, Ledger(redis), ArtifactStore.at(settings.store), dockets, settings)

    def card(self, model: str | None = None) -> ModelCard:
        """The card of a model, by default of the default one."""
        name = model or self.settings.default
        return cached_card(name, self.settings.models[name])

    async def record(self, job: AnyJob, *, life: float = 3600, age: float = 0) -> JobRecord:
        """Write the record of a new job, `age` seconds old, without telling any docket of it."""
        record, objects = split(JobRecord.filed(job, timedelta(seconds=life)))
        for key, data in objects.items():
            await self.store.put(key, data)
        record = record.changed(
            created_at=record.created_at - timedelta(seconds=age), expires_at=record.expires_at - timedelta(seconds=age)
        )
        async with self.redis.pipeline(transaction=True) as pipe:
            write(pipe, record)
            pipe.zadd(keys.JOBS, {record.id: 0})
            pipe.zadd(keys.QUEUED, {record.id: record.created_at.timestamp() * 1000})
            await pipe.execute()
        return record

    async def deliver(self, record: JobRecord) -> None:
        """Add a job to its docket."""
        await enqueue(self.dockets[keys.docket_of(record.kind, record.priority)], record.id)

    async def submit(self, job: AnyJob, *, life: float = 3600) -> str:
        record = await self.record(job, life=life)
        await self.deliver(record)
        return record.id

    async def cancel(self, job_id: str) -> JobRecord:
        """Cancel a job as the gateway does: one that waits is taken from its docket as well."""
        record = await self.ledger.cancel(job_id)
        if record.state.final:
            await self.dockets[keys.docket_of(record.kind, record.priority)].cancel(job_id)
        return record

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

    async def run(self, job: AnyJob) -> JobRecord:
        return await self.ended(await self.submit(job))

    def generation(self, model: str | None = None, **fields: Any) -> AnyJob:
        return generation(self.card(model), **fields)

    def long_generation(self, steps: int = 900) -> AnyJob:
        """A generation that lasts until it is stopped, for all that a test can wait."""
        return self.generation(prompt="a tree", num_inference_steps=steps)

    async def generated(self, model: str | None = None, **fields: Any) -> JobRecord:
        """A small generate job that succeeded."""
        record = await self.run(self.generation(model, **fields))
        assert record.state is State.SUCCEEDED, record.error
        return record

    async def attribution(self, source: JobRecord | str, *targets: Target, **options: Any) -> AnyJob:
        """An attribute job about an image of another job, which need not exist."""
        job_id = source if isinstance(source, str) else source.id
        record = await self.ledger.find(job_id)
        images = record.result if record and isinstance(record.result, ImagesResult) else None
        return attribution(self.card(images.model if images else None), images, job_id, *targets, **options)

    async def attributed(self, source: JobRecord | str, *targets: Target, **options: Any) -> JobRecord:
        return await self.run(await self.attribution(source, *targets, **options))

    def probing(self, source: JobRecord, **fields: Any) -> AnyJob:
        return probing(self.card(source.request.model), source.id, **fields)

    @staticmethod
    def example(source: JobRecord, mask: np.ndarray | None = None) -> MaskExample:
        """An image whose left half belongs to the class, or another mask."""
        return MaskExample(job_id=source.id, mask=base64_mask(left_half() if mask is None else mask))

    def optimization(self, examples: list[Any], name: str = "cat", **options: Any) -> AnyJob:
        return optimization(self.card(), examples, name, **options)

    async def events(self, job_id: str) -> list[dict[str, Any]]:
        return [json.loads(event[b"data"]) for _, event in await self.redis.xrange(keys.events(job_id))]

    async def stored(self, folder: str) -> list[str]:
        return [key async for key in self.store.keys_below(folder)]

    async def trace(self, record: JobRecord, pipeline: Any, image: int = 0) -> ovam.Trace:
        """An image's trace as the store has it, in whichever form."""
        assert isinstance(record.result, ImagesResult)
        if record.result.keep == "queries":
            return ovam.Trace.from_bytes(await self.artifact(record, keys.trace(image)), pipeline)
        replay = ovam.Replay.from_bytes(await self.artifact(record, keys.replay(image)))
        return replay.trace(pipeline, self_attention=True)

    async def artifact(self, record: JobRecord, name: str) -> bytes:
        data = await self.store.get(f"{keys.attempt_folder(record.id, record.attempt)}/{name}")
        assert data is not None, name
        return data


@cache
def cached_card(name: str, source: str) -> ModelCard:
    return read_card(name, source, default=True)


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
