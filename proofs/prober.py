"""Asks for /healthz twenty times a second, as a load balancer does: in a process of its own, so that nothing else is measured."""

import asyncio
import http.client
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

EVERY = 0.05  # seconds
LONGEST = 30.0  # seconds; also what a bad answer counts as


@asynccontextmanager
async def probed(url: str) -> AsyncIterator[list[float]]:
    """Probe a gateway during the block, from its first answer on; afterwards the list holds how long each took (s)."""
    address, waits = urlsplit(url), list[float]()
    command = [sys.executable, "-m", "proofs.prober", str(address.hostname), str(address.port)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    reading = asyncio.create_task(process.communicate())
    try:
        yield waits
    finally:
        process.terminate()
        waits += [float(line) for line in (await reading)[0].split()]


def probe(host: str, port: int) -> float:
    """Ask once; the seconds until the answer."""
    begin = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=LONGEST)
    try:
        connection.request("GET", "/healthz")
        ok = connection.getresponse().status == http.client.OK
    except OSError:
        ok = False
    finally:
        connection.close()
    return time.monotonic() - begin if ok else LONGEST


def main(host: str, port: int) -> None:
    """Print the seconds of each answer after the first, a line each, until somebody ends the process."""
    while probe(host, port) == LONGEST:
        time.sleep(EVERY)
    while True:
        seconds = probe(host, port)
        print(seconds, flush=True)
        time.sleep(max(0.0, EVERY - seconds))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
