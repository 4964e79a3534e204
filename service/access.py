"""Who may ask: every request of a gateway that needs keys is let in by its API key, or not at all.

This runs before routing and before the body is read, so that no route can forget it and nobody unknown can send large bodies.
What a client then sees is decided in one place as well: `service.resources.resources_of` gives each request its tenant's view.
"""

import base64
import re
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from fastapi import Request
from redis.exceptions import RedisError
from starlette.routing import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.schema import access
from contracts.schema.access import Limits
from contracts.schema.errors import Code
from contracts.schema.jobs import utc_now
from contracts.state.keyring import Admission, Keyring
from service import limits, problems
from service.refusals import RefusalError

PUBLIC = re.compile(
    r"/|/web/.*|/healthz|/readyz|/openapi\.json|/docs(/files/.*)?|/problems/[^/]+|/integrations/(label-studio|x-anylabeling)/health"
)
HARMLESS = ("GET", "HEAD", "OPTIONS")
BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
BASIC = re.compile(r"basic +([A-Za-z0-9+/=]+) *", re.IGNORECASE)
LABEL_STUDIO, X_ANYLABELING = "/integrations/label-studio/", "/integrations/x-anylabeling/"
CHALLENGE = 'Bearer realm="ovam"'
HOW = "send `Authorization: Bearer ovam_...`"
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Client:
    """Whose request it is, and how much it may take; without keys everybody is the one tenant, whose name is empty."""

    tenant: str = ""
    limits: Limits = field(default_factory=Limits)


class Access:
    """Lets requests in by their keys, if they are `required`, and says in every answer what is left of the key's limits."""

    def __init__(self, app: ASGIApp, *, required: bool) -> None:
        self.app = app
        self.required = required

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its client, or answer unauthenticated, scope-missing or rate-limited."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        app, client, headers = self.app, Client(), Headers()
        if self.required and not PUBLIC.fullmatch(get_route_path(scope)):
            try:
                admission = await admitted(scope)
                client = Client(admission.card.tenant, admission.card.limits)
                structlog.contextvars.bind_contextvars(tenant=client.tenant)
                headers = limits.headers(admission)
                check_scope(admission, needed(scope["method"], get_route_path(scope)))
            except RefusalError as error:
                app = problems.answer_to(error, problems.Address.of(scope))
            except RedisError as error:
                app = await problems.on_redis_error(Request(scope), error)
        scope["state"]["client"] = client

        async def with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *headers]
            await send(message)

        await app(scope, receive, with_limits)


async def admitted(scope: Scope) -> Admission:
    """What is known of the request's key. RefusalError: unauthenticated, rate-limited."""
    given = given_keys(scope)
    if not given:
        raise unauthenticated(f"this gateway needs an API key: {HOW}", CHALLENGE)
    admission = await Keyring(scope["state"]["resources"].redis).admit(given[0]) if given[0] and len(given) == 1 else None
    if admission is None:
        raise unauthenticated(f"`Authorization` holds no key that is known here; {HOW}", f'{CHALLENGE}, error="invalid_token"')
    expiry = admission.card.expires_at
    if expiry is not None and expiry <= utc_now():
        detail = f"the key {admission.card.name!r} was valid until {expiry:%Y-%m-%d %H:%M} UTC"
        raise unauthenticated(detail, f'{CHALLENGE}, error="invalid_token", error_description="the key has expired"')
    if not admission.within_rate:
        raise limits.too_fast(admission)
    return admission


def given_keys(scope: Scope) -> list[str]:
    """The keys that a request gives; an empty one for what is none.

    Annotation tools cannot send bearer tokens. At their addresses alone, so that no browser sends a key by itself to any other,
    Label Studio's comes as the password of HTTP's basic authentication, and X-AnyLabeling's in a header `Token`.
    """
    path = get_route_path(scope)
    headers = [(name, value.decode("latin-1")) for name, value in scope["headers"]]
    own = [value for name, value in headers if name == b"token" and value] if path.startswith(X_ANYLABELING) else []
    given = [value for name, value in headers if name == b"authorization"]
    return own or [key_of(value, basic=path.startswith(LABEL_STUDIO)) for value in given]


def key_of(value: str, *, basic: bool) -> str:
    """The key in the value of `Authorization`; empty if there is none."""
    if found := BEARER.fullmatch(value):
        return found[1]
    if basic and (found := BASIC.fullmatch(value)):
        with suppress(ValueError):  # of base64 and of UTF-8
            return base64.b64decode(found[1], validate=True).decode().partition(":")[2]
    return ""


def unauthenticated(detail: str, challenge: str) -> RefusalError:
    """The problem of a request without a valid key."""
    return RefusalError(Code.UNAUTHENTICATED, detail, headers={"WWW-Authenticate": challenge}, field="Authorization")


def needed(method: str, path: str) -> access.Scope:
    """The scope that a request needs: by its method, so that a new route needs one, too."""
    if path == "/metrics":
        return "admin"
    if path == "/v1/webhooks/secret":
        return "generate"  # who has the secret can forge webhooks
    return "read" if method in HARMLESS else "generate"


def check_scope(admission: Admission, scope: access.Scope) -> None:
    """Raise scope-missing unless the key has the scope."""
    card = admission.card
    if scope not in card.scopes:
        detail = f"the key {card.name!r} has {', '.join(card.scopes)}; this request needs {scope}"
        challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"'
        raise RefusalError(Code.SCOPE_MISSING, detail, headers={"WWW-Authenticate": challenge})
