"""Sends what is in the outbox: signed, with time limits, a few at a time, and again later if it was not taken.

Every gateway runs a sender. They share the outbox, and a delivery is leased, so that one of them sends it.
"""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpcore2
import structlog
from redis.exceptions import RedisError
from standardwebhooks import Webhook

from contracts.schema.webhooks import Delivery
from contracts.state.outbox import Outbox
from ovam import __version__
from service.webhooks.targets import CheckedNetwork, PrivateAddressError

LOOK_SECONDS = 1.0
AT_ONCE = 16
AT_ONCE_TO_A_HOST = 4  # a slow receiver does not take all places
ANSWERED_WITHIN = 15.0  # seconds for everything
LIMITS = {"connect": 5.0, "read": 10.0, "write": 10.0, "pool": 15.0}  # seconds
GONE = 410  # the receiver wants no more
OK = range(200, 300)
log = structlog.get_logger("ovam.gateway")


class Sender:
    """Tells clients of their jobs."""

    def __init__(self, outbox: Outbox, *, private: bool) -> None:
        self.outbox = outbox
        self.network = CheckedNetwork(private=private)
        self._hosts: Counter[str] = Counter()
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send what is due until canceled."""
        try:
            while True:
                try:
                    await self.look()
                except RedisError as error:
                    log.warning("redis-unavailable", error=type(error).__name__)
                except Exception:
                    log.exception("webhooks-not-sent")
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            sending = [*self._sending]
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)

    async def look(self) -> None:
        """Begin to send what is due, as far as there are places."""
        free = AT_ONCE - len(self._sending)
        for delivery in await self.outbox.take(free) if free > 0 else ():
            host = urlsplit(delivery.url).hostname or ""
            if self._hosts[host] >= AT_ONCE_TO_A_HOST:
                await self.outbox.postpone(delivery, LOOK_SECONDS)
                continue
            self._hosts[host] += 1
            task = asyncio.create_task(self._send(delivery, host))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, delivery: Delivery, host: str) -> None:
        try:
            problem, for_good = await self.tried(delivery)
            if problem is None:
                await self.outbox.delivered(delivery)
            else:
                await self.outbox.failed(delivery, problem, for_good=for_good)
            log.info("webhook", job_id=delivery.job_id, host=host, tries=delivery.tries + 1, problem=problem)
        except RedisError as error:  # it is sent again when its lease is over
            log.warning("redis-unavailable", error=type(error).__name__)
        finally:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]

    async def tried(self, delivery: Delivery) -> tuple[str | None, bool]:
        """Send once. Returns what went wrong, if anything did, and whether it always will."""
        headers = signed(delivery, await self.outbox.secrets(delivery.tenant))
        try:
            async with asyncio.timeout(ANSWERED_WITHIN), httpcore2.AsyncConnectionPool(network_backend=self.network) as pool:
                sending = pool.stream(
                    "POST", delivery.url, headers=headers, content=delivery.body.encode(), extensions={"timeout": LIMITS}
                )
                async with sending as answer:  # what it says beside its status is not read
                    status = answer.status
        except PrivateAddressError as error:
            return str(error), False
        except (OSError, TimeoutError, httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
            return f"{type(error).__name__} on the way", False
        return (None, False) if status in OK else (f"answered {status}", status == GONE)


def signed(delivery: Delivery, secrets: list[str]) -> list[tuple[bytes, bytes]]:
    """The headers of a delivery, with a signature by each secret (Standard Webhooks)."""
    now = datetime.now(UTC)
    signatures = [Webhook(secret).sign(delivery.id, now, delivery.body) for secret in secrets]
    parts = urlsplit(delivery.url)
    return [
        (b"Host", parts.netloc.encode()),
        (b"Content-Type", b"application/json"),
        (b"Content-Length", str(len(delivery.body.encode())).encode()),
        (b"User-Agent", f"ovam/{__version__}".encode()),
        (b"webhook-id", delivery.id.encode()),
        (b"webhook-timestamp", str(int(now.timestamp())).encode()),
        (b"webhook-signature", " ".join(signatures).encode()),
    ]
