"""A gateway behind a real server; a whole service with a tiny model; an image."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from launcher.processes import running
from service.app import create_app
from service.settings import GatewaySettings
from tests.service.conftest import redis, worker
from tests.service.serving import served
from tests.worker.conftest import model_folder

__all__ = ["model_folder", "redis", "worker"]


@pytest.fixture
def settings(redis_url: str, store_url: str, tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(redis_url=redis_url, store_url=store_url, data_dir=tmp_path)


@pytest.fixture
async def online(settings: GatewaySettings) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a gateway, with a worker that has no model."""
    async with served(create_app(settings)) as client:
        yield client


@pytest.fixture(scope="module")
def tiny_url(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a service, as processes, with a tiny model of 64x64 pixels; all tests of a module share it."""
    own = {"OVAM_MODELS": json.dumps({"tiny": str(model_folder)}), "OVAM_IMAGE_HOSTS": "127.0.0.1"}
    with running({**os.environ, **own}, data_dir=tmp_path_factory.mktemp("tiny")) as service:
        yield service.url


@pytest.fixture
async def tiny(tiny_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of it."""
    async with httpx2.AsyncClient(base_url=tiny_url, timeout=100) as client:
        yield client


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A picture of 96x80 pixels, wider than high."""
    pixels: Any = np.random.default_rng(0).integers(0, 255, (80, 96, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photograph.png")
    return tmp_path / "photograph.png"
