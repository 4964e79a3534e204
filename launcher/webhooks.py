"""`ovam webhooks`: what is still to be told, what could not be, again; and the secrets that it is signed with."""

import json
from typing import Annotated

import typer
from redis.asyncio import Redis

from contracts.schema.webhooks import Delivery
from contracts.state.outbox import Outbox
from launcher.reach import FAILED, end, with_redis

app = typer.Typer(help="See what webhooks could not tell, send it again, read and change secrets.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Tenant = Annotated[str, typer.Option(help="Whose; without API keys there is one tenant, whose name is empty.")]


@app.command("list")
def list_deliveries(*, as_json: AsJson = False) -> None:
    """List what could not be told, the newest first, then what is still to be told."""

    async def work(redis: Redis) -> tuple[list[Delivery], list[Delivery]]:
        outbox = Outbox(redis)
        return await outbox.lost(), await outbox.waiting()

    lost, waiting = with_redis(work)
    if as_json:
        found = {"failed": lost, "waiting": waiting}
        typer.echo(json.dumps({name: [each.model_dump(mode="json") for each in some] for name, some in found.items()}))
        return
    for name, some in (("failed", lost), ("waiting", waiting)):
        for each in some:
            typer.echo(f"{name}  {each.id}  {each.url}  {each.tries} tries{', ' if each.problem else ''}{each.problem}")
    if not lost and not waiting:
        typer.echo("everything was told", err=True)


@app.command()
def replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="What to send; all that failed without any.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Send again what could not be told, or what was told within the last days. Receivers see the same `webhook-id`."""

    async def work(redis: Redis) -> list[Delivery]:
        outbox = Outbox(redis)
        return await outbox.replay(ids or [each.id for each in await outbox.lost()])

    sent = [each.id for each in with_redis(work)]
    if missing := sorted({*(ids or ())} - {*sent}):
        end(f"there is no delivery {', '.join(missing)}; `ovam webhooks list` shows those that failed", FAILED)
    typer.echo(json.dumps({"replayed": sent}) if as_json else f"{len(sent)} replayed")


@app.command()
def secret(tenant: Tenant = "", *, rotate: Annotated[bool, typer.Option(help="Make a new one.")] = False) -> None:
    """Print the secret that a tenant's webhooks are signed with. After --rotate the old one signs them, too, for a day."""

    async def work(redis: Redis) -> str:
        outbox = Outbox(redis)
        return await outbox.rotate(tenant) if rotate else (await outbox.secrets(tenant))[0]

    typer.echo(with_redis(work))
