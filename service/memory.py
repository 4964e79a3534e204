"""The gateway's memory: what is freed goes back to the system, where the C library would keep it for later."""

import asyncio
import ctypes
from contextlib import suppress

MMAP_THRESHOLD, LARGE = -3, 2**17  # mallopt's number for it, and bytes
TRIM_EVERY = 30.0  # seconds


def return_large_blocks() -> None:
    """Give large blocks back to the system when they are freed. Left alone, glibc keeps larger ones with every large body."""
    with suppress(AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE)


def trim() -> None:
    """Give back the free pages between blocks that are in use: each of many large bodies leaves some."""
    with suppress(AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


async def trim_forever() -> None:
    """Do so now and then, beside the event loop."""
    while True:
        await asyncio.sleep(TRIM_EVERY)
        await asyncio.to_thread(trim)
