"""Pieces of work whose result is one file each: done once, by whichever process comes first, taken up again at will."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class Task:
    """A file that is to be, and how its text is made."""

    path: Path
    cost: float
    """About how long it takes, in any unit that all tasks share."""
    make: Callable[[], str] = field(compare=False)

    @property
    def done(self) -> bool:
        """Whether the file is there; it is whole, or it is not there."""
        return self.path.exists()


def work_through(tasks: Sequence[Task]) -> None:
    """Do what nobody else does, and return when all is done by somebody.

    A process that ends in the middle of a task lets go of it, and another takes it up.
    """
    parent = os.getppid()
    while pending := [task for task in tasks if not task.done]:
        if sum(attempt(task) for task in pending) == 0:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        if os.getppid() != parent:
            raise SystemExit(1)


def attempt(task: Task) -> bool:
    """Do a task unless it is done or somebody else is at it, and say whether it was done here."""
    with claimed(task.path) as mine:
        if not mine or task.done:
            return False
        write_whole(task.path, task.make())
        return True


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Hold the only claim on a file inside the `with`, if nobody else holds it; the system takes it back from the dead."""
    lock = path.parent / "claims" / path.name
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file beside its place and move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_bytes(content.encode() if isinstance(content, str) else content)
    beside.replace(path)


@dataclass
class Progress:
    """How far the work is, and how long the rest will take at the pace so far."""

    whole: float
    """Cost of all tasks of all stages."""
    at_start: float = 0.0
    """Cost of what was done before."""
    started: float = field(default_factory=time.monotonic)

    def line(self, stage: str, done: float) -> str:
        """Say it."""
        spent = time.monotonic() - self.started
        here = done - self.at_start
        left = "time left unknown" if here <= 0 else f"{minutes((self.whole - done) * spent / here)} left"
        return f"{stage:10s} {100 * done / self.whole:5.1f} %  {minutes(spent)} so far, {left}"


def minutes(seconds: float) -> str:
    """Seconds as minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
