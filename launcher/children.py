"""Processes with a log each: started, watched, started again when they die, stopped with the block that started them."""

import os
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

STOPPED_WITHIN = 20.0  # seconds, then a process is killed
LAST_LINES = 15  # of a log, when its process died
FAILED, BAD_SETTINGS = 1, 2  # exit codes
MOST_DEATHS = 5  # of a process within DEATHS_WITHIN, then everything is stopped
DEATHS_WITHIN = 600.0  # seconds
LOG_BYTES = 10 * 2**20  # of a log; then it is put aside
OLD_LOGS = 3  # that are kept


class StartError(Exception):
    """The service cannot start or go on; the message says why, and what to do."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class Child:
    """A process of the service and its log. The process is started again when it dies, but not too often."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = dict(environment)
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        self._again_at: float | None = None
        self.process = self._start()

    def check(self) -> None:
        """Raise StartError when the process has ended on its own."""
        if self.process.poll() is not None:
            raise self._ended()

    def tend(self) -> str | None:
        """Start the process again if it has ended, after a pause that grows; returns a sentence when it has just ended.

        Raises StartError when it has died too often.
        """
        put_aside(self.log)
        code = self.process.poll()
        if code is None:
            return None
        now = time.monotonic()
        if self._again_at is None:
            self._deaths.append(now)
            often = len(self._deaths) == MOST_DEATHS and now - self._deaths[0] < DEATHS_WITHIN
            if often:
                raise self._ended()
            pause = 2.0 ** sum(now - death < DEATHS_WITHIN for death in self._deaths) / 2
            self._again_at = now + pause
            return f"the {self.name} ended on its own (exit code {code}) and is started again in {pause:.0f} s; log: {self.log}"
        if now >= self._again_at:
            self.again()
        return None

    def again(self) -> None:
        """Start the process again, which has ended."""
        self._again_at = None
        self.process = self._start()

    def stop(self) -> None:
        """Terminate the process, and kill it after STOPPED_WITHIN."""
        self.process.terminate()
        try:
            self.process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        """Start the process in a session of its own, so that Ctrl-C reaches it only through `stop`, in order."""
        with self.log.open("ab") as log:  # to append, so that the log can be cut while the process writes to it
            with suppress(OSError):  # a full disk
                os.write(log.fileno(), f"--- {self.name} starts, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n".encode())
            return subprocess.Popen(  # noqa: S603  # our own commands
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _ended(self) -> StartError:
        """Return what to say of a process that has ended: how, and the end of its log.

        A process that refuses its settings (exit code 2) says so in its last line, which is then all that is quoted.
        """
        code = self.process.returncode
        lines = self.log.read_text(errors="replace").splitlines()
        if code == BAD_SETTINGS and lines:
            return StartError(lines[-1], BAD_SETTINGS)
        times = f", {len(self._deaths)} times in {DEATHS_WITHIN / 60:.0f} minutes" if len(self._deaths) == MOST_DEATHS else ""
        first = f"the {self.name} ended on its own (exit code {code}{times}); its log {self.log} ends:"
        return StartError("\n".join([first, *lines[-LAST_LINES:]]))


@contextmanager
def child(name: str, command: Sequence[str], environment: Mapping[str, str], logs: Path) -> Iterator[Child]:
    """Run a process until the block ends. Its log goes on where the last run's ended."""
    logs.mkdir(parents=True, exist_ok=True)
    started = Child(name, command, environment, logs / f"{name}.log")
    try:
        yield started
    finally:
        started.stop()


def put_aside(log: Path) -> None:
    """Copy a log that has grown large beside it and empty it; the oldest copy goes. A full disk changes nothing."""
    with suppress(OSError):
        if log.stat().st_size < LOG_BYTES:
            return
        for number in range(OLD_LOGS, 1, -1):
            with suppress(FileNotFoundError):
                old_log(log, number - 1).replace(old_log(log, number))
        shutil.copyfile(log, old_log(log, 1))
        os.truncate(log, 0)


def old_log(log: Path, number: int) -> Path:
    """Return the name of an old log, 1 the youngest."""
    return log.with_name(f"{log.name}.{number}")
