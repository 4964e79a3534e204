"""The real app over HTTP, a real Valkey, a real store, and a worker without a model."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis

from contracts.state import keys
from contracts.state.store import ArtifactStore
from service.app import create_app
from service.settings import GatewaySettings
from tests.service.in_test_worker import InTestWorker, card
from tests.service.serving import client_of, served


@pytest.fixture
def settings(redis_url: str, store_url: str, tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(redis_url=redis_url, store_url=store_url, data_dir=tmp_path, max_queued=3, max_body_bytes=20_000)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
async def worker(redis: Redis, store_url: str) -> InTestWorker:
    """A worker that has published one model."""
    worker = InTestWorker(redis, ArtifactStore.at(store_url))
    await worker.publish(card())
    return worker


@pytest.fixture
async def client(settings: GatewaySettings) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the app, in this process."""
    async with client_of(create_app(settings)) as client:
        yield client


@pytest.fixture
async def online(settings: GatewaySettings) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the app behind a real server."""
    async with served(create_app(settings)) as client:
        yield client


@pytest.fixture
async def generated(client: httpx2.AsyncClient, worker: InTestWorker) -> str:
    """The id of a generate job that succeeded, with two images of 64x48."""
    answer = await client.post("/v1/generate", json={"prompt": "a car", "num_images": 2})
    return (await worker.end(answer.json()["id"])).id


@pytest.fixture
def traces(redis: Redis) -> Any:
    """What submissions have left: how many jobs, waiting jobs, records, and tasks in dockets."""

    async def tasks() -> int:
        return sum([await redis.xlen(f"{docket}:stream") for docket in keys.DOCKETS])

    async def count() -> tuple[int, ...]:
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                while await tasks() < await redis.zcard(keys.QUEUED):  # a job is handed on after its client has the answer
                    await asyncio.sleep(0.01)
        records = [key async for key in redis.scan_iter("ovam:job:*")]
        return await redis.zcard(keys.JOBS), await redis.zcard(keys.QUEUED), len(records), await tasks()

    return count
