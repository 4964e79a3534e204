"""What a key's limits are over HTTP: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10), problems.

A policy has a name, a quota `q`, its unit `qu` where that is not requests, and a window `w` in seconds where it is bound to time.
`RateLimit` says what remains (`r`), and after how many seconds more is free (`t`).
"""

import math

from contracts.schema.access import Limits
from contracts.schema.errors import Code
from contracts.state.keyring import Admission
from service.refusals import RefusalError

DAY = 86_400  # seconds
REQUESTS, QUEUED, DEVICE, BYTES = "requests", "queued", "device-seconds", "bytes-kept"


def headers(admission: Admission) -> list[tuple[bytes, bytes]]:
    """All of a key's limits, and what is left of its requests; nothing for a key without limits."""
    policy = policies(admission.card.limits)
    found = [(b"ratelimit-policy", policy.encode())] if policy else []
    if admission.card.limits.requests_per_second is not None:
        found.append((b"ratelimit", left(REQUESTS, admission.remaining, admission.milliseconds).encode()))
    return found


def policies(limits: Limits) -> str:
    """The limits as a structured field; empty without any."""
    rate, found = limits.requests_per_second, []
    if rate is not None:
        found.append(f'"{REQUESTS}";q={math.ceil(rate)};w={max(1, round(math.ceil(rate) / rate))}')
    if limits.queued is not None:
        found.append(f'"{QUEUED}";q={limits.queued};qu="concurrent-requests"')
    if limits.device_seconds_per_day is not None:
        found.append(f'"{DEVICE}";q={limits.device_seconds_per_day};qu="{DEVICE}";w={DAY}')
    if limits.bytes_kept is not None:
        found.append(f'"{BYTES}";q={limits.bytes_kept};qu="content-bytes"')
    return ", ".join(found)


def left(name: str, remaining: int, milliseconds: float) -> str:
    """What is left of a limit, as a structured field."""
    return f'"{name}";r={remaining};t={math.ceil(milliseconds / 1000)}'


def too_fast(admission: Admission) -> RefusalError:
    """The problem of one request too many at a time."""
    rate, seconds = admission.card.limits.requests_per_second, max(1, math.ceil(admission.milliseconds / 1000))
    detail = f"the key {admission.card.name!r} may send {rate:g} requests a second; the next one is free in {seconds} s"
    policy = {"RateLimit-Policy": policies(admission.card.limits)}
    return refusal(Code.RATE_LIMITED, detail, REQUESTS, seconds, policy)


def used_up(name: str, limits: Limits, milliseconds: int, retry_after: int) -> RefusalError:
    """The problem of a submission that a limit does not allow; its size is free again in so many milliseconds, 0 if unknown.

    `retry_after` (seconds) is when its lane moves on.
    """
    seconds = math.ceil(milliseconds / 1000) or retry_after
    match name:
        case "queued":
            detail = f"{limits.queued} jobs of this lane may wait, and do; the next one is free when a worker takes one of them"
            return refusal(Code.QUEUE_LIMIT, detail, name, seconds)
        case "device-seconds":
            detail = (
                f"the {limits.device_seconds_per_day} s of device time of this day are used; they are free again in {seconds} s"
            )
            return refusal(Code.DEVICE_LIMIT, detail, name, seconds)
        case _:
            used = " (all were used in the last 15 minutes)" if limits.when_full == "collect" else ""
            detail = (
                f"jobs may keep {limits.bytes_kept} bytes, and do{used}; "
                f"delete some, or wait {seconds} s until the next one expires"
            )
            return refusal(Code.STORAGE_LIMIT, detail, name, seconds)


def refusal(code: Code, detail: str, name: str, seconds: int, more: dict[str, str] | None = None) -> RefusalError:
    """The problem of a limit of which nothing is left for so many seconds."""
    return RefusalError(code, detail, headers={"RateLimit": left(name, 0, seconds * 1000), **(more or {})}, retry_after=seconds)
