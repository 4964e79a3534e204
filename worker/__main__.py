"""`python -m worker`: read the settings once, then run a worker. Exit code 2: a setting cannot be used."""

import asyncio
import ctypes
import sys

from redis import Redis
from redis.exceptions import RedisError

from contracts.logs import configure_logging
from contracts.settings import BadSettingsError, load, without_secrets
from contracts.tracing import configure_tracing
from worker.settings import WorkerSettings

M_ARENA_MAX = -8  # of glibc's mallopt
ARENAS = 2


def main() -> int:
    """Run the worker; returns the process's exit code."""
    try:
        settings = load(WorkerSettings)
        configure_logging(settings.log_level)
        configure_tracing("ovam-worker")
        require_redis(settings.redis_url)
        save_memory()
        from worker.app import run  # noqa: PLC0415  # seconds of imports, which a wrong setting need not wait for

        asyncio.run(run(settings))
    except BadSettingsError as error:
        sys.stderr.write(f"the worker cannot start: {error}\n")
        return 2
    return 0


def require_redis(url: str) -> None:
    """Raise BadSettingsError unless a Redis answers."""
    try:
        with Redis.from_url(url) as redis:
            redis.ping()
    except RedisError as error:
        raise BadSettingsError(f"OVAM_REDIS_URL: no Redis answers at {without_secrets(url)}: {error}") from error


def save_memory() -> None:
    """Let all threads share few pools of memory: freed tensors go back to the system, where glibc is the C library."""
    try:
        ctypes.CDLL("libc.so.6").mallopt(M_ARENA_MAX, ARENAS)
    except (OSError, AttributeError):
        return


if __name__ == "__main__":
    sys.exit(main())
