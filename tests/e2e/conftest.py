"""The whole service as separate processes: Valkey, gateway, worker with the bundled model."""

import os
from collections.abc import Iterator

import pytest

from service.processes import running


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a running service."""
    with running(os.environ, data_dir=tmp_path_factory.mktemp("service")) as service:
        yield service.url
