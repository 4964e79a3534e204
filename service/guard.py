"""Whose requests are answered: those for this host, and changes that no other site's page asks for.

Without a check of the host, a page whose name is made to lead here (DNS rebinding) could read everything. Without one of the
origin, any page could cancel jobs, since browsers send simple requests wherever a page wants them to.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from contracts.schema.errors import Code, ServiceError
from service import problems

HARMLESS = ("GET", "HEAD", "OPTIONS")
OWN_SITES = ("same-origin", "none")  # `none`: a person typed the address


class Guard:
    """Refuses requests for other hosts, if `hosts` are given, and changes from pages of other than these `origins`."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None, origins: list[str]) -> None:
        self.app = app
        self.hosts = hosts
        self.origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer host-not-allowed or origin-not-allowed."""
        answer: ASGIApp = self.app
        if scope["type"] == "http":
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            try:
                check_host(headers.get(b"host", ""), self.hosts)
                if scope["method"] not in HARMLESS:
                    check_origin(headers, self.origins)
            except ServiceError as error:
                answer = problems.answer_to(error, problems.Address.of(scope))
        await answer(scope, receive, send)


def check_host(host: str, allowed: frozenset[str] | None) -> None:
    """Raise host-not-allowed for a name that is none of these. Addresses are nobody's to give, so they are always allowed."""
    name = name_of(host)
    if allowed is None or not name or name in allowed or is_address(name):
        return
    detail = f"the gateway does not answer for the host {name!r}; OVAM_ALLOWED_HOSTS says for which it does"
    raise ServiceError(Code.HOST_NOT_ALLOWED, detail, field="Host", value=name)


def name_of(host: str) -> str:
    """A host without its port, in lower case; as it is if it is none."""
    try:
        return urlsplit(f"//{host}").hostname or host
    except ValueError:
        return host


def is_address(name: str) -> bool:
    """Whether a host is named by its address."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def check_origin(headers: dict[bytes, str], allowed: list[str]) -> None:
    """Raise origin-not-allowed for a change that a page of another site asks for.

    Browsers say so in `Sec-Fetch-Site`, on connections without TLS only in `Origin`. Other clients send neither.
    """
    site, origin = headers.get(b"sec-fetch-site", ""), headers.get(b"origin", "")
    own = site in OWN_SITES if site else not origin or origin.partition("//")[2] == headers.get(b"host")
    if own or "*" in allowed or origin in allowed:
        return
    detail = f"pages of {origin or 'another site'} may not change anything here; OVAM_CORS_ORIGINS says whose may"
    raise ServiceError(Code.ORIGIN_NOT_ALLOWED, detail, field="Origin", value=origin)
