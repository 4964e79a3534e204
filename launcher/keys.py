"""`ovam keys`: create, list and revoke API keys, in the Redis that the gateways use."""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError

from contracts.schema.access import KeyCard, Limits, WhenFull
from contracts.schema.jobs import utc_now
from contracts.state.keyring import KeyNameError, Keyring
from launcher.reach import BAD_USAGE, FAILED, AsJson, end, with_redis

MOST_DAYS = 36_500
QUEUED = 64  # jobs of a key's tenant that may wait in a lane, unless said otherwise: a quarter of what fits

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
T = TypeVar("T")
Name = Annotated[str, typer.Argument(help="The key's name: a-z, 0-9, '.', '_' and '-'.")]


@app.command()
def create(  # noqa: PLR0913  # each is an option of the command
    name: Name,
    tenant: Annotated[str | None, typer.Option(help="Whose jobs and tokens it sees; the key's name without it.")] = None,
    scope: Annotated[list[str] | None, typer.Option(help="generate, read or admin; by default generate and read.")] = None,
    days: Annotated[float | None, typer.Option(help="How long it is valid; until it is revoked without it.")] = None,
    requests_per_second: Annotated[float | None, typer.Option(help="Requests a second.")] = None,
    queued: Annotated[int, typer.Option(min=0, help="Jobs that may wait in each lane; 0 for any number.")] = QUEUED,
    device_seconds: Annotated[int | None, typer.Option(help="Seconds on the device a day (UTC).")] = None,
    kept: Annotated[int | None, typer.Option("--bytes", help="Bytes of files that jobs may keep.")] = None,
    *,
    when_full: Annotated[
        WhenFull, typer.Option(help="When they do: refuse further jobs, or collect: delete the files of those used longest ago.")
    ] = "refuse",
    as_json: AsJson = False,
) -> None:
    """Create a key and print it. It is shown this once: only its digest is stored."""
    if days is not None and not 0 < days <= MOST_DAYS:
        raise typer.BadParameter(f"{days:g} is not in the range 0<x<={MOST_DAYS}", param_hint="--days")
    now = utc_now()
    try:
        limits = Limits(
            requests_per_second=requests_per_second,
            queued=queued or None,
            device_seconds_per_day=device_seconds,
            bytes_kept=kept,
            when_full=when_full,
        )
        card = KeyCard.model_validate({
            "name": name,
            "tenant": tenant or name,
            "scopes": list(dict.fromkeys(scope or ("generate", "read"))),
            "limits": limits,
            "created_at": now,
            "expires_at": None if days is None else now + timedelta(days=days),
        })  # fmt: skip
    except ValidationError as error:
        end("; ".join(f"{each['loc'][0]}={each['input']!s}: {each['msg']}" for each in error.errors()), BAD_USAGE)
    key = with_keyring(lambda keyring: keyring.create(card))
    if as_json:
        typer.echo(json.dumps({"key": key, **card.model_dump(mode="json")}))
    else:
        typer.echo(key)
        typer.echo(f"{described(card)}; it is not shown again. Clients send `Authorization: Bearer <key>`.", err=True)


@app.command("list")
def list_keys(*, as_json: AsJson = False) -> None:
    """List the keys: whose they are, what they may do, until when. The keys themselves are not stored."""
    cards = with_keyring(lambda keyring: keyring.cards())
    if as_json:
        typer.echo(json.dumps([card.model_dump(mode="json") for card in cards]))
        return
    for card in cards:
        typer.echo(described(card))
    if not cards:
        typer.echo("there are no keys; create one with `ovam keys create NAME`", err=True)


@app.command()
def revoke(name: Name, *, as_json: AsJson = False) -> None:
    """Revoke a key: from this moment on no gateway lets it in. The jobs and tokens of its tenant stay."""
    with_keyring(lambda keyring: keyring.revoke(name))
    typer.echo(json.dumps({"revoked": name}) if as_json else f"{name} is revoked")


def described(card: KeyCard) -> str:
    """Return a key in a line."""
    until = "until it is revoked" if card.expires_at is None else f"until {card.expires_at:%Y-%m-%d %H:%M} UTC"
    if card.expires_at is not None and card.expires_at <= utc_now():
        until = f"expired {card.expires_at:%Y-%m-%d %H:%M} UTC"
    limits = bounds(card.limits)
    return (
        f"{card.name}: tenant {card.tenant}, {', '.join(card.scopes)}, {until}{', at most ' if limits else ''}{', '.join(limits)}"
    )


def bounds(limits: Limits) -> Sequence[str]:
    """Return the limits of a key in words."""
    known = (
        (limits.requests_per_second, "{:g} requests a second"),
        (limits.queued, "{} jobs waiting in a lane"),
        (limits.device_seconds_per_day, "{} s on the device a day"),
        (limits.bytes_kept, "{} bytes kept" + (" (those used longest ago go)" if limits.when_full == "collect" else "")),
    )
    return [words.format(number) for number, words in known if number is not None]


def with_keyring(work: Callable[[Keyring], Awaitable[T]]) -> T:
    """Do something with the keys in Redis; leave with a sentence if that is not possible."""
    try:
        return with_redis(lambda redis: work(Keyring(redis)))
    except KeyNameError as error:
        end(str(error), FAILED)
