"""`python -m worker`: read the settings once, then run a worker. Exit code 2: a setting cannot be used."""

import asyncio
import ctypes
import sys

from contracts.logs import configure_logging
from contracts.settings import BadSettingsError, load
from contracts.state.connections import check_server
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
        asyncio.run(check_server(settings.redis_url))
        save_memory()
        from worker.app import run  # noqa: PLC0415  # seconds of imports, which a wrong setting need not wait for

        asyncio.run(run(settings))
    except BadSettingsError as error:
        sys.stderr.write(f"the worker cannot start: {error}\n")
        return 2
    return 0


def save_memory() -> None:
    """Let all threads share few pools of memory: freed tensors go back to the system, where glibc is the C library."""
    try:
        ctypes.CDLL("libc.so.6").mallopt(M_ARENA_MAX, ARENAS)
    except (OSError, AttributeError):
        return


if __name__ == "__main__":
    sys.exit(main())
