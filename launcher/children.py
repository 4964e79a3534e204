"""Processes with a log each, which stop with the block that started them."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STOPPED_WITHIN = 20.0  # seconds, then a process is killed
LAST_LINES = 15  # of a log, when its process died
FAILED, BAD_SETTINGS = 1, 2  # exit codes


class StartError(Exception):
    """The service cannot start or go on; the message says why, and what to do."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Child:
    """A process of the service and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def child(name: str, command: list[str], environment: Mapping[str, str], logs: Path) -> Iterator[Child]:
    """Run a process in a session of its own, so that Ctrl-C reaches it only through `stop`, in order."""
    logs.mkdir(parents=True, exist_ok=True)
    path = logs / f"{name}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # our own commands
            command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield Child(name, process, path)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process, and kill it after STOPPED_WITHIN."""
    process.terminate()
    try:
        process.wait(STOPPED_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def check(children: Sequence[Child]) -> None:
    """Raise StartError when one of the processes has ended, with the end of its log.

    A process that refuses its settings (exit code 2) says so in its last line, which is then all that is quoted.
    """
    for each in children:
        code = each.process.poll()
        if code is None:
            continue
        lines = each.log.read_text(errors="replace").splitlines()
        if code == BAD_SETTINGS and lines:
            raise StartError(lines[-1], BAD_SETTINGS)
        message = [f"the {each.name} ended on its own (exit code {code}); its log {each.log} ends:", *lines[-LAST_LINES:]]
        raise StartError("\n".join(message))
