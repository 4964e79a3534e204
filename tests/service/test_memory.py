"""What the gateway frees goes back to the system."""

import asyncio
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from service import memory
from service.memory import return_large_blocks, trim

BLOCK, BLOCKS, KEPT_EACH = 50_000, 2_000, 10


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_free_pages_between_blocks_in_use_are_given_back() -> None:
    blocks = [bytes([number % 256]) * BLOCK for number in range(BLOCKS)]
    kept = blocks[::KEPT_EACH]
    blocks.clear()
    before = resident()
    trim()
    assert before - resident() > 0.5 * BLOCK * BLOCKS
    assert [block[0] for block in kept[:3]] == [0, 10, 20]


def test_the_c_library_is_told_to_give_back_all_that_is_free_and_another_one_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[tuple[int, ...]]()
    glibc = SimpleNamespace(mallopt=lambda *given: told.append(given), malloc_trim=lambda *given: told.append(given))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: glibc)
    return_large_blocks()
    trim()
    assert told == [(-3, 1 << 17), (0,)], "M_MMAP_THRESHOLD in bytes, and no pad"
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: SimpleNamespace())
    return_large_blocks()
    trim()


async def test_memory_is_given_back_again_and_again_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, done = list[int](), asyncio.Event()
    loop = asyncio.get_running_loop()

    def trimmed() -> None:
        threads.append(threading.get_ident())
        if len(threads) == 2:
            loop.call_soon_threadsafe(done.set)

    monkeypatch.setattr(memory, "trim", trimmed)
    monkeypatch.setattr(memory, "TRIM_EVERY", 0)
    trimming = asyncio.create_task(memory.trim_forever())
    await asyncio.wait_for(done.wait(), 10)
    trimming.cancel()
    assert threading.get_ident() not in threads
