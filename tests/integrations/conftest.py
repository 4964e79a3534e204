"""A real gateway behind a real server, a real worker with a tiny model, and images."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from contracts.state.store import ArtifactStore
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


@pytest.fixture
async def tiny(settings: GatewaySettings, model_folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a gateway, with a worker that has a tiny model of 64x64 pixels."""
    own = WorkerSettings(
        redis_url=settings.redis_url,
        store_url=settings.store_url,
        data_dir=settings.data_dir / "worker",
        models={"tiny": str(model_folder)},
        default_model="tiny",
        grace_seconds=0,
    )
    async with running(own), served(create_app(settings)) as client:
        async with asyncio.timeout(60):
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.05)
        yield client


@pytest.fixture
def store(store_url: str) -> ArtifactStore:
    return ArtifactStore.at(store_url)


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A picture of 96x80 pixels, wider than high."""
    pixels: Any = np.random.default_rng(0).integers(0, 255, (80, 96, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photograph.png")
    return tmp_path / "photograph.png"
