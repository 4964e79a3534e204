"""`ovam jobs`: what becomes of jobs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ovam_client.answers import Artifact, JobSummary
from ovam_client.cli.session import AsJson, JobId, note, printed, service, waited, write

jobs = typer.Typer(help="List, show, wait for, cancel, delete and download jobs.", invoke_without_command=True)
Kind = Annotated[str | None, typer.Option(help="generate, image, attribute, probe, optimize or import.")]
State = Annotated[str | None, typer.Option(help="queued, running, succeeded, failed or canceled.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many.")]


@jobs.callback()
def listed(context: typer.Context, kind: Kind = None, state: State = None, limit: Limit = 20, *, as_json: AsJson = False) -> None:
    """List jobs, newest first."""
    if context.invoked_subcommand is None:
        show_list(kind, state, limit, as_json=as_json)


@jobs.command("list")
def list_jobs(kind: Kind = None, state: State = None, limit: Limit = 20, *, as_json: AsJson = False) -> None:
    """List jobs, newest first."""
    show_list(kind, state, limit, as_json=as_json)


def show_list(kind: str | None, state: str | None, limit: int, *, as_json: bool) -> None:
    """Print jobs, newest first."""
    with service() as client:
        found = [summary for _, summary in zip(range(limit), client.jobs.list(kind=kind, state=state), strict=False)]
    if as_json:
        printed(found)
    for summary in found if not as_json else ():
        typer.echo(line(summary))


def line(summary: JobSummary) -> str:
    """A job in a line."""
    told = f"{summary.progress.done}/{summary.progress.total}" if summary.state == "running" and summary.progress else ""
    told = summary.error.detail if summary.error else told
    return f"{summary.id}\t{summary.created_at:%Y-%m-%d %H:%M:%S}\t{summary.kind}\t{summary.state}\t{told}".rstrip()


@jobs.command()
def show(job: JobId) -> None:
    """Print a job's record, as JSON."""
    with service() as client:
        printed(client.jobs.get(job).record)


@jobs.command()
def wait(job: JobId, *, as_json: AsJson = False) -> None:
    """Wait for a job's end; exit code 1 unless it succeeds. Ctrl-C cancels it."""
    with service() as client:
        found = waited(client.jobs.get(job), "wait")
        if as_json:
            printed(found.record)
        else:
            typer.echo(found.state)


@jobs.command()
def cancel(job: JobId) -> None:
    """Stop a job: at once while it waits, at its next step while it runs."""
    with service() as client:
        typer.echo(client.jobs.get(job).cancel().state)


@jobs.command()
def delete(job: JobId) -> None:
    """Delete a job with its files."""
    with service() as client:
        client.jobs.get(job).delete()


@jobs.command()
def download(
    job: JobId, out: Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="The folder to write to.")] = Path()
) -> None:
    """Write all files of a job's result."""
    with service() as client:
        files = {file.name: file for file in files_of(client.jobs.get(job).result)}
        for name, file in files.items():
            write(out / Path(name).name, client.download(file))
        if not files:
            note("the job has no files")


def files_of(value: Any) -> list[Artifact]:  # noqa: ANN401  # a part of a result
    """The files that a result names."""
    if isinstance(value, Artifact):
        return [value]
    parts = [each for _, each in value] if hasattr(type(value), "model_fields") else value if isinstance(value, list) else []
    return [file for part in parts for file in files_of(part)]
