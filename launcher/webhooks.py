"""`ovam webhooks`: deliveries that failed or are due, sent again on request, and the secrets that sign them."""

import json
from typing import Annotated

import typer
from redis.asyncio import Redis

from contracts.schema.webhooks import Delivery
from contracts.state.outbox import Outbox
from launcher.reach import FAILED, AsJson, end, with_redis

app = typer.Typer(help="List webhook deliveries, send failed ones again, show and rotate signing secrets.", no_args_is_help=True)
Tenant = Annotated[str, typer.Option(help="The tenant; without API keys there is only one, with an empty name.")]


@app.command("list")
def list_deliveries(*, as_json: AsJson = False) -> None:
    """List deliveries: failed ones, the newest first, then those still to be sent."""

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
        typer.echo("no delivery has failed, and none is due", err=True)


@app.command()
def replay(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Deliveries to send again; without any, all failed ones.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Send deliveries again: failed ones, or any of the last four days. Receivers see the same `webhook-id`."""

    async def work(redis: Redis) -> list[Delivery]:
        outbox = Outbox(redis)
        return await outbox.replay(ids or [each.id for each in await outbox.lost()])

    sent = [each.id for each in with_redis(work)]
    if missing := sorted({*(ids or ())} - {*sent}):
        end(f"there is no delivery {', '.join(missing)}; `ovam webhooks list` shows those that failed", FAILED)
    typer.echo(json.dumps({"replayed": sent}) if as_json else f"{len(sent)} replayed")


@app.command()
def secret(tenant: Tenant = "", *, rotate: Annotated[bool, typer.Option(help="Replace it with a new one.")] = False) -> None:
    """Print the secret that signs a tenant's webhooks. After --rotate, the old secret signs them as well for a day."""

    async def work(redis: Redis) -> str:
        outbox = Outbox(redis)
        return await outbox.rotate(tenant) if rotate else (await outbox.secrets(tenant))[0]

    typer.echo(with_redis(work))
