"""`ovam jobs dead` and `requeue`: jobs that failed for their workers or the store, and running them again."""

import json
from typing import Annotated

import typer
from redis.asyncio import Redis

from contracts.schema.errors import ServiceError
from contracts.schema.jobs import JobRecord
from contracts.state.dead import dead, revived
from contracts.state.ledger import Ledger
from contracts.state.transitions import LostJob
from launcher.reach import FAILED, AsJson, end, with_redis
from ovam_client.cli.jobs import jobs

PANEL = "The dead letter queue (OVAM_REDIS_URL)"


def dead_jobs(
    job_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Show this job's whole record.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List dead jobs: those whose workers died too often, or whose files the store did not take."""
    records = with_redis(dead)
    if job_id is not None:
        found = next((record for record in records if record.id == job_id), None)
        if found is None:
            end(f"{job_id!r} is not a dead job; `ovam jobs dead` lists them", FAILED)
        typer.echo(found.model_dump_json(indent=None if as_json else 2))
    elif as_json:
        typer.echo(json.dumps([record.model_dump(mode="json") for record in records]))
    else:
        for record in records:
            typer.echo(described(record))
        if not records:
            typer.echo("there are no dead jobs", err=True)


def requeue(job_id: Annotated[str, typer.Argument(metavar="ID")], *, as_json: AsJson = False) -> None:
    """Run a dead job again, as if it were new. A worker takes it within half a minute."""

    async def work(redis: Redis) -> JobRecord:
        return await Ledger(redis).change(job_id, revived)

    try:
        record = with_redis(work)
    except LostJob:
        end(f"there is no job {job_id!r}", FAILED)
    except ServiceError as error:
        end(error.detail, FAILED)
    typer.echo(record.model_dump_json() if as_json else f"{record.id} is {record.state}")


def add_commands() -> None:
    """Give the client's `ovam jobs` the commands that need the gateways' Redis."""
    jobs.command("dead", rich_help_panel=PANEL)(dead_jobs)
    jobs.command(rich_help_panel=PANEL)(requeue)


def described(record: JobRecord) -> str:
    """Return a job in a line."""
    reason = f"{record.error.code}: {record.error.detail}" if record.error else record.state
    whose = f" of {record.tenant}" if record.tenant else ""
    return f"{record.id}  {record.kind}{whose}, failed {record.finished_at:%Y-%m-%d %H:%M:%S} UTC, {reason}"
