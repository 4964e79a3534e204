"""What was asked, and what is wrong with the answers."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from proofs.claims import Log

SECRET = "quetzalcoatl"  # noqa: S105  # no password
"""A word in everything of the other tenant's; no request holds it."""
SHOWN = 400  # characters of an answer in the log


@dataclass
class Tenant:
    """A tenant's key, and what is its own."""

    key: str
    jobs: list[str]
    """Finished ones."""
    tokens: list[str]

    @property
    def headers(self) -> dict[str, str]:
        """What lets its requests in."""
        return {"Authorization": f"Bearer {self.key}"}


@dataclass
class Asked:
    """Counts requests and collects faults; may be used from several threads."""

    log: Log
    random: Random
    requests: Counter[str] = field(default_factory=Counter)
    """By who sent them."""
    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    """Answers 5xx, and connections that ended without an answer."""
    undocumented: int = 0
    leaks: int = 0
    """Answers that hold, or touch, what is another tenant's."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, source: str, request: str, status: int, body: bytes) -> None:
        """Note an answer."""
        with self._lock:
            self.requests[source] += 1
            self.statuses[status] += 1
            if status >= 500 and status != 501:
                self.broken += 1
                self._tell("broken", source, request, status, body)
            if SECRET.encode() in body:
                self.leaks += 1
                self._tell("leak", source, request, status, body)

    def silent(self, source: str, request: str, error: Exception) -> None:
        """Note a request that got no answer."""
        with self._lock:
            self.requests[source] += 1
            self.broken += 1
            self.log.write("silent", source=source, request=request[:SHOWN], error=repr(error)[:SHOWN])

    def wrong(self, source: str, request: str, error: object) -> None:
        """Note an answer that the API's description does not have."""
        with self._lock:
            self.undocumented += 1
            self.log.write("undocumented", source=source, request=request[:SHOWN], error=str(error)[:2000])

    def touched(self, source: str, request: str, status: int, body: bytes) -> None:
        """Note a request about another tenant's thing that was not refused."""
        with self._lock:
            self.leaks += 1
            self._tell("touched", source, request, status, body)

    def _tell(self, what: str, source: str, request: str, status: int, body: bytes) -> None:
        text = body[:SHOWN].decode(errors="replace")
        self.log.write(what, source=source, request=request[:SHOWN], status=status, body=text)
