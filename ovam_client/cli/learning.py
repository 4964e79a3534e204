"""`ovam learn` and `ovam tokens`."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ovam_client.cli.making import given
from ovam_client.cli.session import AsJson, OutFile, TokenName, note, printed, service, waited, write
from ovam_client.inputs import Example

EXAMPLE = re.compile(r"(?P<job>[0-9a-z]{26})(:(?P<image>\d+))?=(?P<file>.+)")
FORMATS = {".npy": "npy", ".safetensors": "safetensors"}
tokens = typer.Typer(help="List, show, rename, delete, download and import learned tokens.", invoke_without_command=True)
Format = Annotated[str | None, typer.Option(help="safetensors, textual-inversion or npy; by the file's name without it.")]


def learn(
    name: Annotated[str, typer.Argument(help="The token's name; one in use gets a new version.")],
    example: Annotated[
        list[str], typer.Option("--example", "-e", help="JOB=MASK or JOB:IMAGE=MASK, several times; the mask is a picture.")
    ],
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Several times, for masks that are maps of labels 0, 1, 2, ...")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Most epochs.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The optimiser's own without it.")] = None,
    out: OutFile = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Learn a token from annotated images. Prints its name with its version; `--out` is the file for it."""
    several = classes is not None and len(classes) > 1
    examples = [annotated(each, labels=several) for each in example]
    options = given(epochs=epochs, learning_rate=learning_rate)
    with service() as client:
        job = waited(client.learn(name, *examples, classes=classes, **options), f"learn {name}")
        if out is not None:
            write(out, client.tokens.download(job.result.token, form(out, None)))
        if as_json:
            printed(job.record)
        else:
            note(f"best loss {job.result.best_loss:.4f} at epoch {job.result.best_epoch} of {job.result.epochs}")
            typer.echo(job.result.token)


def annotated(text: str, *, labels: bool) -> Example:
    """An example of the command line."""
    match = EXAMPLE.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not JOB=MASK or JOB:IMAGE=MASK", param_hint="--example")
    file = Path(match["file"])
    if not file.is_file():
        raise typer.BadParameter(f"there is no file {str(file)!r}", param_hint="--example")
    said: dict[str, Any] = {"labels" if labels else "mask": file}
    return Example(match["job"], image=int(match["image"] or 0), **said)


@tokens.callback()
def listed(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the learned tokens, the newest version of each."""
    if context.invoked_subcommand is None:
        show_list(as_json=as_json)


@tokens.command("list")
def list_tokens(*, as_json: AsJson = False) -> None:
    """List the learned tokens, the newest version of each."""
    show_list(as_json=as_json)


def show_list(*, as_json: bool) -> None:
    """Print the tokens by name."""
    with service() as client:
        found = list(client.tokens.list())
    if as_json:
        printed(found)
    for token in found if not as_json else ():
        iou = "" if token.example_iou is None else f"\tIoU {token.example_iou:.2f}"
        typer.echo(f"{token.name}@{token.version}\t{', '.join(token.classes)}\t{token.model}{iou}")


@tokens.command()
def show(token: TokenName) -> None:
    """Print what is known of a token, as JSON."""
    with service() as client:
        printed(client.tokens.get(token))


@tokens.command()
def rename(token: TokenName, to: Annotated[str, typer.Argument(help="The new name.")]) -> None:
    """Give a token another name; its versions keep their numbers."""
    with service() as client:
        typer.echo(client.tokens.rename(token, to).name)


@tokens.command()
def delete(token: TokenName) -> None:
    """Delete a version of a token, or with a bare name all of them."""
    with service() as client:
        client.tokens.delete(token)


@tokens.command()
def download(
    token: TokenName,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")],
    format: Format = None,  # noqa: A002  # the option's name
) -> None:
    """Write a token's file."""
    with service() as client:
        write(out, client.tokens.download(token, form(out, format)))


@tokens.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    name: Annotated[str | None, typer.Option(help="The token's name.")] = None,
    format: Annotated[str | None, typer.Option(help="As `download`'s, or `published`.")] = None,  # noqa: A002
    classes: Annotated[list[str] | None, typer.Option("--class", help="Names of the rows of a .npy, several times.")] = None,
    model: Annotated[str | None, typer.Option(help="The model it was learned on.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Import tokens from a file. Prints their names with their versions."""
    with service() as client:
        options = given(name=name, classes=classes, model=model)
        job = waited(client.tokens.upload(file.read_bytes(), form(file, format), **options), "import")
        if as_json:
            printed(job.record)
        else:
            typer.echo("\n".join(job.result.tokens))


def form(file: Path, said: str | None) -> str:
    """The format of a token's file: the one that is said, else by its name."""
    if said is None and file.suffix not in FORMATS:
        raise typer.BadParameter(f"{file.name!r} ends with none of {', '.join(FORMATS)}; say which", param_hint="--format")
    return said or FORMATS[file.suffix]
