"""What all commands share: a client, progress on standard error, errors as sentences, exit codes."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ovam_client.answers import Progress as Report
from ovam_client.drivers import AddressError
from ovam_client.errors import (
    AccessError,
    BusyError,
    InvalidRequestError,
    NotFoundError,
    OvamServiceError,
    RefusedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
)
from ovam_client.flows import Patience
from ovam_client.sync import Client, Job


class Exit(IntEnum):
    """How a command ends."""

    FAILED = 1  # a job failed, or something else did
    WRONG = 2  # arguments that cannot be
    AWAY = 3  # no service, or no room in it: worth another try
    FORBIDDEN = 4  # no key, or one that does not allow it
    ABSENT = 5  # no such job or token
    INTERRUPTED = 130


CODES: tuple[tuple[type[OvamServiceError], Exit], ...] = (
    (AddressError, Exit.WRONG),
    (InvalidRequestError, Exit.WRONG),
    (AccessError, Exit.FORBIDDEN),
    (NotFoundError, Exit.ABSENT),
    (BusyError, Exit.AWAY),
    (UnavailableError, Exit.AWAY),
    (UnreachableError, Exit.AWAY),
    (UnexpectedAnswerError, Exit.AWAY),
)
HINTS = {
    UnreachableError: "start one with `ovam up`, or set OVAM_URL",
    AccessError: "set OVAM_API_KEY to a key that allows it",
}
AWAY = 5.0  # seconds that a person who looks on waits for a service that does not answer
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", file_okay=False, help="A folder for files; it is made.")]
OutFile = Annotated[Path | None, typer.Option("--out", "-o", dir_okay=False, help="A file to write.")]
errors = Console(stderr=True, highlight=False)


@contextmanager
def service() -> Iterator[Client]:
    """A client of the service of OVAM_URL; what goes wrong ends the command with a sentence and an exit code."""
    try:
        with Client(patience=Patience(away=AWAY)) as client:
            yield client
    except OvamServiceError as error:
        end(said(error), next((code for kind, code in CODES if isinstance(error, kind)), Exit.FAILED))
    except (OSError, ValueError, TypeError) as error:  # files and values that were given
        end(str(error), Exit.WRONG)
    except KeyboardInterrupt:
        end("stopped", Exit.INTERRUPTED)


def said(error: OvamServiceError) -> str:
    """An error in a sentence: with its fields, and with what to do."""
    fields = error.errors if isinstance(error, RefusedError) else ()
    named = "".join(f"\n  {each.field}: {each.detail}" for each in fields if each.detail not in str(error))
    hint = next((f"; {words}" for kind, words in HINTS.items() if isinstance(error, kind)), "")
    return f"{error}{hint}{named}"


def end(message: str, code: Exit) -> None:
    """Print a message on standard error and leave."""
    errors.print(f"ovam: {message}", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def waited(job: Job[Any], title: str) -> Job[Any]:
    """Wait for a job, its progress drawn on standard error where that is a terminal. Ctrl-C cancels it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    try:
        with Progress(*columns, TimeElapsedColumn(), console=errors, transient=True, disable=not errors.is_terminal) as drawn:
            bar = drawn.add_task(title, total=None, note="")
            return job.wait(lambda report: shown(drawn, bar, report))
    except KeyboardInterrupt:
        note(f"job {job.id} is canceled")
        raise


def shown(drawn: Progress, bar: Any, report: Report) -> None:  # noqa: ANN401  # rich's own type
    """Draw how far a job is."""
    drawn.update(bar, completed=report.done, total=report.total)
    if report.loss is not None:
        drawn.update(bar, note=f"loss {report.loss:.4f}")
    if report.preview is not None:
        drawn.update(bar, note=", ".join(f"{mask.label} {mask.area:.0%}" for mask in report.preview.masks if mask.mask))


def note(message: str) -> None:
    """Say something that is no result: on standard error."""
    errors.print(message, markup=False, soft_wrap=True)


def printed(value: BaseModel | Iterable[BaseModel]) -> None:
    """Print one answer, or several, as JSON."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else [each.model_dump(mode="json") for each in value]
    typer.echo(json.dumps(plain, ensure_ascii=False))


def numbered(path: Path, count: int) -> list[Path]:
    """The paths of several files of one kind: `car.png`, or `car-0.png`, `car-1.png`, ..."""
    return [path] if count == 1 else [path.with_stem(f"{path.stem}-{index}") for index in range(count)]


def slug(label: str, taken: set[str]) -> str:
    """A label as a file's name, different from those that are taken."""
    plain = re.sub(r"[^\w.-]+", "-", label).strip("-.") or "target"
    name = next(each for each in (plain, *(f"{plain}-{number}" for number in range(2, len(taken) + 3))) if each not in taken)
    taken.add(name)
    return name


def write(path: Path, data: bytes) -> None:
    """Write a file whole, or not at all; its folder is made."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    note(f"wrote {path}")


def completing(found: Callable[[Client], Iterable[str]]) -> Callable[[str], list[str]]:
    """A shell's completion from what the service has; nothing if it does not answer at once."""

    def complete(incomplete: str) -> list[str]:
        with suppress(OvamServiceError), Client(timeout=2, patience=Patience(away=0, busy=0)) as client:
            return [name for name in found(client) if name.startswith(incomplete)]
        return []

    return complete


def newest_jobs(client: Client) -> list[str]:
    """The newest jobs' ids."""
    return [summary.id for _, summary in zip(range(20), client.jobs.list(), strict=False)]


def token_names(client: Client) -> list[str]:
    """The names of learned tokens."""
    return [token.name for token in client.tokens.list()]


JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id.", autocompletion=completing(newest_jobs))]
TokenName = Annotated[
    str, typer.Argument(metavar="TOKEN", help="`name@version`, or `name`.", autocompletion=completing(token_names))
]
