"""`ovam store`: how large what is stored is, whether it is sound, what is to go, and data sets for elsewhere."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

import typer
from obstore.exceptions import BaseError
from redis.asyncio import Redis

from contracts.schema.errors import ServiceError
from contracts.settings import STORE_SCHEMES, CommonSettings, load
from contracts.state import retention
from contracts.state.datasets import Datasets
from contracts.state.inventory import Inventory, damages, inventory
from contracts.state.store import ArtifactStore
from launcher.reach import FAILED, AsJson, end, with_redis
from ovam.core.export import FormName, Split

TIERS = ("replays", "queries", "results", "requests", "tokens", "datasets", "other")
UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))

app = typer.Typer(help="Look after the artifact store: sizes, checksums, what is to go, exports.", no_args_is_help=True)
T = TypeVar("T")


@app.command()
def sizes(
    jobs: Annotated[int, typer.Option(min=0, help="How many jobs to list, the largest first.")] = 10, *, as_json: AsJson = False
) -> None:
    """Show how many bytes are stored, by tier and by job."""
    found = with_store(lambda store, _redis: inventory(store))
    largest = sorted(found.jobs.items(), key=lambda one: -one[1].total())[:jobs]
    if as_json:
        typer.echo(json.dumps({"tiers": dict(found.tiers), "jobs": {job_id: dict(own) for job_id, own in largest}}))
        return
    for line in table(found, largest):
        typer.echo(line)


@app.command()
def verify(*, as_json: AsJson = False) -> None:
    """Read every file and compare its checksums; exit with 1 if one is damaged. Nothing is changed."""

    async def all_of(store: ArtifactStore, _redis: Redis) -> list[tuple[str, str]]:
        return [damage async for damage in damages(store)]

    found = with_store(all_of)
    if as_json:
        typer.echo(json.dumps([{"key": key, "damage": sentence} for key, sentence in found]))
    else:
        for key, sentence in found:
            typer.echo(f"{key}: {sentence}")
    if found:
        end(f"{len(found)} damages", FAILED)
    typer.echo("every file is as it was written", err=True)


@app.command()
def collect(
    quota: Annotated[int, typer.Option("--bytes", min=0, help="Bytes that jobs' files may take; those used longest ago go.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Delete the files of the jobs used longest ago until all take so many bytes at most, and what belongs to no job.

    What was used in the last 15 minutes stays.
    """

    async def both(store: ArtifactStore, redis: Redis) -> tuple[list[str], list[str]]:
        return await retention.collect(redis, store, quota), await retention.delete_orphans(redis, store)

    gone, orphans = with_store(both)
    if as_json:
        typer.echo(json.dumps({"jobs": gone, "orphans": orphans}))
    else:
        typer.echo(f"the files of {len(gone)} jobs and {len(orphans)} orphaned folders are deleted")


@app.command()
def export(
    dataset: Annotated[str, typer.Argument(help="The data set's id.")],
    to: Annotated[str, typer.Option(help="An empty folder of a store, as s3://bucket/folder or file:///folder.")],
    form: Annotated[FormName, typer.Option("--format", help="Which tools shall read it.")] = "coco",
    split: Annotated[float, typer.Option(min=0, max=0.99, help="Share of the images that are for validation.")] = 0.1,
    split_seed: Annotated[int, typer.Option(min=0, help="Which ones.")] = 0,
    rest: Annotated[Literal["0", "255"] | None, typer.Option(help="Label of what is no class: background, or unsure.")] = None,
    outlines: Annotated[Literal["rle", "polygons"] | None, typer.Option(help="Masks of coco and labelme.")] = None,
) -> None:
    """Write a data set from the store to another place, past the gateway. It is whole once datasheet.json is there."""
    from service.datasets import exporting  # noqa: PLC0415  # the other commands need no forms

    target = place(to)

    async def written(store: ArtifactStore, redis: Redis) -> int:
        datasets = Datasets(redis)
        record, unsealed = await datasets.get(dataset), await datasets.open_entries(dataset)
        options = Split(validation=split, seed=split_seed)
        files = exporting.exported_files(store, record, unsealed, exporting.form_of(form, rest, outlines), options)
        return await asyncio.to_thread(exporting.into_store, files, target)

    typer.echo(f"{with_store(written)} files are written to {to}")


def place(url: str) -> ArtifactStore:
    """Return the store at a URL, or leave with what is allowed."""
    try:
        if urlsplit(url).scheme in STORE_SCHEMES:
            return ArtifactStore.at(url)
    except (ValueError, BaseError):
        pass
    raise typer.BadParameter(f"{url!r}; allowed: s3://bucket/folder, or file:///folder with a whole path", param_hint="--to")


def table(found: Inventory, largest: Sequence[tuple[str, Counter[str]]]) -> list[str]:
    """Return an inventory in lines."""
    tiers = [tier for tier in TIERS if found.tiers[tier]]
    lines = [f"{tier:<10} {in_words(found.tiers[tier]):>10}" for tier in tiers]
    lines.append(f"{'all':<10} {in_words(found.tiers.total()):>10}  of {len(found.jobs)} jobs")
    return lines + [
        f"{job_id}  {', '.join(f'{tier} {in_words(own[tier])}' for tier in TIERS if own[tier])}" for job_id, own in largest
    ]


def in_words(size: float) -> str:
    """Return a size as people read it.

    >>> in_words(1_540_000)
    '1.5 MB'
    """
    unit, factor = next(((unit, factor) for unit, factor in UNITS if size >= factor), ("bytes", 1))
    return f"{size:.0f} bytes" if factor == 1 else f"{size / factor:.1f} {unit}"


def with_store(work: Callable[[ArtifactStore, Redis], Awaitable[T]]) -> T:
    """Do something with the store and Redis of the settings; leave with a sentence if that is not possible."""
    try:
        return with_redis(lambda redis: work(ArtifactStore.at(load(CommonSettings).store), redis))
    except ServiceError as error:
        end(str(error), FAILED)
