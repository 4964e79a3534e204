"""The whole service as separate processes: Valkey, gateway, worker with the bundled model."""

import os
from collections.abc import Iterator

import httpx2
import pytest

from launcher.client import Service
from launcher.processes import running


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a running service."""
    with running(os.environ, data_dir=tmp_path_factory.mktemp("service")) as service:
        yield service.url


@pytest.fixture(scope="module")
def service(service_url: str) -> Iterator[Service]:
    """A client of it."""
    with httpx2.Client(base_url=service_url, timeout=60) as http:
        yield Service(http)
