"""Images that annotation tools name by their address, fetched as carefully as webhooks are sent (see `service.webhooks.targets`).

Names are resolved once and checked, redirects are not followed, and private addresses are only for hosts that the deployment
names.
"""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

import httpcore2
import structlog

from contracts.schema.errors import Code, ServiceError
from ovam import __version__
from service.settings import GatewaySettings, listed
from service.webhooks.targets import CheckedNetwork, PrivateAddressError, problem_of

WITHIN = 20.0  # seconds for everything
LIMITS = {"connect": 5.0, "read": 10.0, "write": 10.0, "pool": 5.0}  # seconds
OK = 200
REFUSED = (401, 403)
ACCEPT = "image/*, */*;q=0.5"  # the rest too: servers that negotiate, as Label Studio does, call their files something else
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
log = structlog.get_logger("ovam.gateway")


async def fetched(url: str, settings: GatewaySettings, headers: Mapping[str, str] = NO_HEADERS, *, field: str) -> bytes:
    """What is at an address. Raises invalid-argument where nothing may be fetched, body-too-large, and image-unreadable."""
    private = is_named(url, settings.image_hosts)
    reason = "is fetched by no one here" if settings.image_hosts == "none" else problem_of(url, private=private)
    if reason:
        raise refused(f"{url[:100]!r} {reason}", url, field)
    try:
        async with asyncio.timeout(WITHIN):
            return await received(url, CheckedNetwork(private=private), headers, settings.max_body_bytes, field)
    except PrivateAddressError as error:
        raise refused(str(error), url, field) from error
    except (OSError, TimeoutError, httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
        raise unreadable(f"could not be fetched: {type(error).__name__}", url, field) from error


async def received(url: str, network: CheckedNetwork, headers: Mapping[str, str], most: int, field: str) -> bytes:
    """The body of the answer, at most so many bytes."""
    sent = {"Host": urlsplit(url).netloc, "User-Agent": f"ovam/{__version__}", "Accept": ACCEPT, **headers}
    async with (
        httpcore2.AsyncConnectionPool(network_backend=network) as pool,
        pool.stream("GET", url, headers=[*sent.items()], extensions={"timeout": LIMITS}) as answer,
    ):
        if answer.status != OK:
            hint = "; give its key or its password (docs/integrations.md)" if answer.status in REFUSED else ""
            raise unreadable(f"was answered with status {answer.status}{hint}", url, field)
        found = bytearray()
        async for piece in answer.aiter_stream():
            found += piece
            if len(found) > most:
                raise ServiceError(Code.BODY_TOO_LARGE, f"`{field}` is at an address with more than {most} bytes", field=field)
    return bytes(found)


def is_named(url: str, hosts: str) -> bool:
    """Whether the deployment names the URL's host, with or without its port."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return False
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return bool({host, f"{host}:{port}"} & set(listed(hosts.lower())))


def refused(what: str, url: str, field: str) -> ServiceError:
    """The problem of an address where nothing is fetched."""
    detail = f"`{field}`: {what}; allowed: http:// or https:// with a public host, or one of OVAM_IMAGE_HOSTS"
    return ServiceError(Code.INVALID_ARGUMENT, detail, field=field, value=url[:100])


def unreadable(what: str, url: str, field: str) -> ServiceError:
    """The problem of an address that gives no image."""
    return ServiceError(Code.IMAGE_UNREADABLE, f"`{field}`: {url[:100]!r} {what}", field=field, value=url[:100])
