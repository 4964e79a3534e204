"""The whole service as separate processes: Valkey, gateway, worker with the bundled model and adapters of it; and a browser."""

import json
import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from launcher.processes import Running, running
from ovam_client import Client
from tests.e2e.browser import chromium
from tests.e2e.steering import world_adapters


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running service."""
    adapters = json.dumps(world_adapters(tmp_path_factory.mktemp("adapters")))
    with running({**os.environ, "OVAM_ADAPTERS": adapters}, data_dir=tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(scope="session")
def service_url(processes: Running) -> str:
    """Its base URL."""
    return processes.url


@pytest.fixture(scope="module")
def service(service_url: str) -> Iterator[Client]:
    """A client of it."""
    with Client(service_url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium."""
    with chromium() as browser:
        yield browser
