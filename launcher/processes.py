"""The whole service on this machine: an embedded Valkey, workers and a gateway, as processes that stop together."""

import fcntl
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher.children import Child, StartError, child
from launcher.signals import ignore_signals, signals_interrupt
from launcher.valkey import embedded_url

READY_WITHIN = 600.0  # seconds: large models load slowly, and a process that ends is noticed at once
LOOK_EVERY = 0.1  # seconds


@dataclass(frozen=True)
class Running:
    """A service that is ready."""

    url: str
    redis_url: str
    logs: Path
    children: tuple[Child, ...]

    def check(self) -> None:
        """Raise StartError when a process has ended on its own."""
        for each in self.children:
            each.check()

    def tend(self) -> list[str]:
        """Start again what has ended, and say so; put large logs aside. StartError when something ends again and again."""
        return [sentence for each in self.children if (sentence := each.tend())]


@contextmanager
def running(
    environment: Mapping[str, str], *, data_dir: Path, host: str = "127.0.0.1", port: int = 0, workers: int = 1
) -> Iterator[Running]:
    """Run a gateway with workers until the block ends, whether normally or by an exception.

    `environment` is the whole environment of the processes. An embedded Valkey keeps its data below `data_dir` unless
    OVAM_REDIS_URL is set. Port 0 picks a free port. Processes start in the order Valkey, workers, gateway and stop in
    reverse. Raises StartError; within the block SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does.
    """
    port = available(host, port)
    folder = data_dir.absolute()
    with ExitStack() as stack:
        stack.enter_context(signals_interrupt())
        stack.enter_context(locked(folder))
        try:
            service = started(stack, environment, folder, host, port, workers)
            wait_until_ready(service)
            yield service
        finally:
            ignore_signals()  # a second Ctrl-C must not leave processes behind


def started(stack: ExitStack, environment: Mapping[str, str], folder: Path, host: str, port: int, workers: int) -> Running:
    """Start the processes one after the other; `stack` stops them in reverse."""
    logs, children = folder / "logs", list[Child]()
    redis_url = environment.get("OVAM_REDIS_URL") or embedded_url(stack, children, folder, environment)
    own = {"OVAM_REDIS_URL": redis_url, "OVAM_DATA_DIR": str(folder), "OVAM_HOST": host, "OVAM_PORT": str(port)}
    full = {**environment, **own}
    for number in range(workers):
        name = "worker" if workers == 1 else f"worker-{number}"
        children.append(stack.enter_context(child(name, [sys.executable, "-m", "worker"], full, logs)))
    children.append(stack.enter_context(child("gateway", [sys.executable, "-m", "launcher", "serve"], full, logs)))
    return Running(url_of(host, port), redis_url, logs, tuple(children))


def url_of(host: str, port: int) -> str:
    """Return the URL at which this machine reaches what listens on an address."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def wait_until_ready(service: Running) -> None:
    """Wait until /readyz answers. Raises StartError when a process dies or READY_WITHIN is over."""
    deadline, missing = time.monotonic() + READY_WITHIN, "the gateway does not answer"
    while True:
        service.check()
        try:
            with urllib.request.urlopen(f"{service.url}/readyz", timeout=5):  # noqa: S310  # our own gateway
                return
        except urllib.error.HTTPError as error:
            missing = error.read().decode(errors="replace")
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise StartError(f"the service is not ready after {READY_WITHIN:.0f} s: {missing}")
        time.sleep(LOOK_EVERY)


def available(host: str, port: int) -> int:
    """Return the port, or a free one for 0. Raises StartError if nobody can listen on it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            detail = f"cannot listen on {host}:{port}: {error.strerror}"
            raise StartError(f"{detail}. Take another port with --port, or any free one with --port 0.") from error
        return listener.getsockname()[1]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a data folder: two Valkeys would ruin each other's files. Raises StartError if another service has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise StartError(f"cannot write to {folder}: {error.strerror}. Choose another folder with OVAM_DATA_DIR.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartError(f"{folder} is in use by another service. Stop it, or choose another OVAM_DATA_DIR.") from error
        yield


def inherited(*kept: str) -> dict[str, str]:
    """Return the environment of this process without its OVAM_* variables, except for those named."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OVAM_") or name in kept}
