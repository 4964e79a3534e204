"""A worker in the test's own event loop, on a tiny genuine model, and somebody who hands it jobs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.pipelines import tiny_pipeline
from tests.worker.client import Client
from tests.worker.running import running
from worker.resources import Resources
from worker.settings import WorkerSettings


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline("ddim").save_pretrained(folder)
    return folder


@pytest.fixture
def settings(redis_url: str, store_url: str, model_folder: Path, tmp_path: Path) -> WorkerSettings:
    return WorkerSettings(
        redis_url=redis_url,
        store_url=store_url,
        data_dir=tmp_path / "data",
        models={"tiny": str(model_folder), "broken": str(tmp_path / "nowhere")},
        default_model="tiny",
        redelivery_seconds=1,
        grace_seconds=0,
        janitor_seconds=0.5,
        worker_name="tester",
    )


@pytest.fixture
async def client(settings: WorkerSettings) -> AsyncIterator[Client]:
    async with Client.connected(settings) as client:
        yield client


@pytest.fixture
async def worker(settings: WorkerSettings) -> AsyncIterator[Resources]:
    async with running(settings) as resources:
        yield resources
