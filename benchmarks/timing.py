"""Time and memory, measured so that other work on the machine tells as little as it can."""

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
Clock = Callable[[], float]
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def seconds(work: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """How long work takes by a clock; that of a GPU to its end."""
    start = clock()
    work()
    finish()
    return clock() - start


def finish() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_turn(
    first: Callable[[], object],
    second: Callable[[], object],
    repeats: int,
    limit: float,
    *,
    warm: bool = True,
    clock: Clock = time.perf_counter,
) -> list[tuple[float, float]]:
    """Time two ways in turn, each of them first every other time, so that neither has the better moments."""
    if warm:
        first(), second()
    end = time.perf_counter() + limit
    pairs = []
    for turn in range(repeats):
        if turn and time.perf_counter() > end:
            break
        if turn % 2:
            late = seconds(second, clock)
            pairs.append((seconds(first, clock), late))
        else:
            pairs.append((seconds(first, clock), seconds(second, clock)))
    return pairs


def peak_bytes(work: Callable[[], T]) -> tuple[int, T]:
    """How much memory work takes at most, beyond what was taken before it, and its result: of the GPU or else of the process."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = work()
        return torch.cuda.max_memory_allocated() - before, result
    ctypes.CDLL(None).malloc_trim(0)
    RESET.write_text("5")  # the most so far becomes what is now
    before = resident("VmRSS")
    result = work()
    return resident("VmHWM") - before, result


def resident(name: str) -> int:
    """A figure of this process' memory in bytes: VmRSS now, VmHWM at most."""
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
