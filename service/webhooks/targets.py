"""Where a webhook may go. An address that only we can reach is no client's business (server-side request forgery).

A host name is resolved once, by us, when the connection is made, and the connection goes to the address that was checked: a name
that resolves to another address a moment later (DNS rebinding) gains nothing. Redirects are not followed.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import cast
from urllib.parse import urlsplit

import httpcore2

from contracts.schema.errors import Code, ServiceError

LONGEST = 2048
RESOLVED_WITHIN = 5.0  # seconds
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class PrivateAddressError(Exception):
    """A webhook would go to an address that is not public."""


def check_url(url: str, *, private: bool) -> str:
    """Return a URL that a webhook may have. ServiceError (invalid-argument) for any other."""
    reason = problem_of(url, private=private)
    if reason:
        detail = f"`Webhook` {url[:100]!r} {reason}; allowed: http:// or https:// with a public host"
        raise ServiceError(Code.INVALID_ARGUMENT, detail, field="Webhook", value=url[:100])
    return url


def problem_of(url: str, *, private: bool) -> str | None:
    """What is wrong with a URL as it stands; names are looked at when they are resolved."""
    if len(url) > LONGEST or not url.isascii() or not url.isprintable() or " " in url:
        return f"is not at most {LONGEST} printable ASCII characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is not http:// or https:// with a host"
    if parts.username is not None or parts.password is not None or parts.fragment or port == 0:
        return "has a user, a password, a fragment or port 0"
    return None if private or names_public(parts.hostname) else "is an address that is not public"


def names_public(host: str) -> bool:
    """Whether a host is a public address, or a name, of which nobody knows yet."""
    try:
        return is_public(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return not host.rstrip(".").endswith("localhost")


def is_public(address: Address) -> bool:
    """Whether everybody may reach an address; of one that holds another, both count."""
    inner: Address | None = None
    if isinstance(address, ipaddress.IPv6Address):
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        elif address.ipv4_mapped or address.sixtofour:
            inner = address.ipv4_mapped or address.sixtofour
        elif address.teredo:
            return False
        if address.ipv4_mapped and inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast and (inner is None or is_public(inner))


async def resolved(host: str, port: int, *, private: bool) -> list[str]:
    """The addresses of a host. PrivateAddressError if any of them is not public: who mixes them is up to something."""
    async with asyncio.timeout(RESOLVED_WITHIN):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    for address in addresses:
        if not private and not is_public(ipaddress.ip_address(address.partition("%")[0])):
            raise PrivateAddressError(f"{host} is at an address that is not public")
    return addresses


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connections to addresses that were checked, and to no others."""

    def __init__(self, *, private: bool) -> None:
        self.private = private
        self.network = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the library's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve, check, and connect to the first address that answers; TLS still asks for the host's name."""
        failure: Exception | None = None
        for address in await resolved(host, port, private=self.private):
            try:
                return await self.network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore2.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """There are none here."""
        del path, timeout, socket_options
        raise PrivateAddressError("a webhook goes to no socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
