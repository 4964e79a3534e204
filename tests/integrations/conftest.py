"""A real gateway behind a real server, a real worker with a tiny model, and images."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import pytest_asyncio
from PIL import Image
from redis import Redis

from service.app import create_app
from service.settings import GatewaySettings
from tests.service.conftest import redis, worker
from tests.service.serving import served
from tests.worker.conftest import model_folder
from tests.worker.running import running
from worker.settings import WorkerSettings

__all__ = ["model_folder", "redis", "worker"]


@pytest.fixture
def settings(redis_url: str, store_url: str, tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(redis_url=redis_url, store_url=store_url, data_dir=tmp_path)


@pytest.fixture
async def online(settings: GatewaySettings) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a gateway, with a worker that has no model."""
    async with served(create_app(settings)) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny(valkey: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a gateway, with a worker that has a tiny model of 64x64 pixels; all tests of a module share them."""
    folder = tmp_path_factory.mktemp("tiny")
    with Redis.from_url(valkey) as redis:
        redis.flushall()
    common = {"redis_url": valkey, "store_url": f"file://{folder}/store", "data_dir": folder}
    own = WorkerSettings(**common, models={"tiny": str(model_folder)}, default_model="tiny", grace_seconds=0)
    async with running(own), served(create_app(GatewaySettings(**common, image_hosts="127.0.0.1"))) as client:
        async with asyncio.timeout(60):
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.05)
        yield client


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A picture of 96x80 pixels, wider than high."""
    pixels: Any = np.random.default_rng(0).integers(0, 255, (80, 96, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photograph.png")
    return tmp_path / "photograph.png"
