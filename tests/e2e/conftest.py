"""The whole service as separate processes: Valkey, gateway, worker with the bundled model."""

import os
from collections.abc import Iterator

import pytest

from launcher.processes import Running, running
from ovam_client import Client


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running service."""
    with running(os.environ, data_dir=tmp_path_factory.mktemp("service")) as service:
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
