"""What the gateway frees goes back to the system."""

import os
import sys
from pathlib import Path

import pytest

from service.memory import trim

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
