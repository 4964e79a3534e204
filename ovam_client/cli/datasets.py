"""`ovam dataset`: images with masks by the thousand."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ovam_client.answers import Counts, DatasetSummary
from ovam_client.cli.making import Adapters, ClipSkip, Guidance, Model, Negative, Scheduler, Side, Steps, given, scaled
from ovam_client.cli.session import AsJson, completing, errors, note, printed, service
from ovam_client.sync import Client
from ovam_client.sync_datasets import Dataset

FORMATS = "coco, voc, yolo, labelme, webdataset or huggingface"


def newest_datasets(client: Client) -> list[str]:
    """The newest data sets' ids."""
    return [summary.id for _, summary in zip(range(20), client.datasets.list(), strict=False)]


dataset = typer.Typer(help="Data sets: images of many prompts with masks of classes, filtered, exported.", no_args_is_help=True)
DatasetId = Annotated[str, typer.Argument(metavar="DATASET", help="A data set's id.", autocompletion=completing(newest_datasets))]
Jsonl = Annotated[
    Path | None,
    typer.Option(
        "--jsonl", exists=True, dir_okay=False, help="A file with a JSON object in each line: prompt, custom_id, classes, seed."
    ),
]
Source = Annotated[list[str] | None, typer.Option("--prompt", "-p", help="A prompt; several are possible.")]
Template = Annotated[list[str] | None, typer.Option("--template", "-t", help="A prompt with {class}, for each class.")]


@dataset.command()
def make(  # noqa: PLR0913, PLR0917  # each is an option of the command
    classes: Annotated[
        list[str], typer.Argument(metavar="CLASS...", help="`car`, `car=7` with a label, `car=cat@2=7` with a learned token.")
    ],
    prompt: Source = None,
    jsonl: Jsonl = None,
    template: Template = None,
    images: Annotated[int | None, typer.Option("--images", "-n", help="Images of each prompt.")] = None,
    seed: Annotated[int | None, typer.Option(help="Image n of the data set has seed + n.")] = None,
    name: Annotated[str | None, typer.Option(help="What you call it.")] = None,
    preset: Annotated[str | None, typer.Option(help="Filters: paper or published-code.")] = None,
    filters: Annotated[str | None, typer.Option(help="Filters, or changes of the preset's, as JSON.")] = None,
    method: Annotated[
        str | None,
        typer.Option(help="ovam, daam, attn2mask, grounded-diffusion or datasetdm; the model's best settings without it."),
    ] = None,
    settings: Annotated[str | None, typer.Option(help="Changes of the method's settings, as JSON.")] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    negative: Negative = None,
    scheduler: Scheduler = None,
    model: Model = None,
    height: Side = None,
    width: Side = None,
    adapter: Adapters = None,
    clip_skip: ClipSkip = None,
    concurrency: Annotated[int | None, typer.Option(help="Images worked on at a time; three a worker without it.")] = None,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it is done; Ctrl-C leaves it going.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set. Prints its id."""
    generation = given(
        model=model,
        num_inference_steps=steps,
        guidance_scale=guidance,
        negative_prompt=negative,
        scheduler=scheduler,
        height=height,
        width=width,
        adapters=scaled(adapter),
        clip_skip=clip_skip,
    )
    options = given(
        templates=template,
        images_per_prompt=images,
        seed=seed,
        name=name,
        filters=given(preset=preset) | object_of(filters, "--filters") or None,
        attribution=given(method=method, settings=object_of(settings, "--settings") or None) or None,
        generation=generation or None,
        concurrency=concurrency,
    )
    if prompt and jsonl:
        raise typer.BadParameter("give prompts, or a file of them", param_hint="--jsonl")
    prompts: Any = text_of(jsonl) if jsonl else prompt
    with service() as client:
        found = client.datasets.create([class_of(each) for each in classes], prompts, **options)
        if wait:
            waited(found)
        shown(found, as_json=as_json)


def text_of(file: Path) -> str:
    """What a file of lines holds."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is not UTF-8: {error.reason} at byte {error.start}", param_hint="--jsonl") from error


def class_of(text: str) -> Any:  # noqa: ANN401  # a DatasetClass
    """A class as the command line has it."""
    name, *rest = text.split("=")
    label = [int(each) for each in rest if each.isdecimal()]
    token = [{"token": each} for each in rest if not each.isdecimal()]
    if len(label) > 1 or len(token) > 1 or not name:
        raise typer.BadParameter(f"{text!r}; allowed: NAME, NAME=LABEL, NAME=TOKEN, NAME=TOKEN=LABEL", param_hint="CLASS")
    return given(name=name, label=next(iter(label), None), target=next(iter(token), None))


def object_of(text: str | None, option: str) -> dict[str, Any]:
    """An option in JSON."""
    try:
        found = {} if text is None else json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not JSON: {error}", param_hint=option) from error
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{text!r}; allowed: a JSON object", param_hint=option)
    return found


@dataset.command("list")
def list_datasets(limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 20, *, as_json: AsJson = False) -> None:
    """List data sets, newest first."""
    with service() as client:
        found = [summary for _, summary in zip(range(limit), client.datasets.list(), strict=False)]
    if as_json:
        printed(found)
    for summary in found if not as_json else ():
        typer.echo(line(summary))


def line(summary: DatasetSummary) -> str:
    """A data set in a line."""
    when = f"{summary.created_at:%Y-%m-%d %H:%M:%S}"
    return f"{summary.id}\t{when}\t{summary.state}\t{told(summary.counts)}\t{summary.name or ''}".rstrip()


def told(counts: Counts) -> str:
    """How far it is, in words."""
    rejected = "".join(f", {count} {reason}" for reason, count in counts.rejected.items())
    failed = f", {counts.failed} failed" if counts.failed else ""
    return f"{counts.done}/{counts.entries}: {counts.accepted} accepted{rejected}{failed}"


@dataset.command()
def show(dataset_id: DatasetId) -> None:
    """Print a data set's record, as JSON."""
    with service() as client:
        printed(client.datasets.get(dataset_id).record)


@dataset.command()
def wait(dataset_id: DatasetId, *, as_json: AsJson = False) -> None:
    """Wait for a data set's end; exit code 1 unless it succeeds. Ctrl-C leaves it going."""
    with service() as client:
        shown(waited(client.datasets.get(dataset_id)), as_json=as_json)


def waited(found: Dataset) -> Dataset:
    """Wait for a data set, its progress drawn on standard error where that is a terminal."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=errors, transient=True, disable=not errors.is_terminal) as drawn:
        bar = drawn.add_task("", total=found.counts.entries, completed=found.counts.done)
        return found.wait(lambda counts: drawn.update(bar, completed=counts.done, description=told(counts)))


def shown(found: Dataset, *, as_json: bool) -> None:
    """Print a data set: its record, or its id, with how far it is on standard error."""
    if as_json:
        printed(found.record)
    else:
        typer.echo(found.id)
        note(f"{found.state}, {told(found.counts)}")


@dataset.command()
def pause(dataset_id: DatasetId, *, as_json: AsJson = False) -> None:
    """Begin no further image; those under way are finished."""
    with service() as client:
        shown(client.datasets.get(dataset_id).pause(), as_json=as_json)


@dataset.command()
def resume(dataset_id: DatasetId, *, as_json: AsJson = False) -> None:
    """Go on, after a pause or a failure."""
    with service() as client:
        shown(client.datasets.get(dataset_id).resume(), as_json=as_json)


@dataset.command()
def cancel(dataset_id: DatasetId, *, as_json: AsJson = False) -> None:
    """End a data set for good; what there is can be exported."""
    with service() as client:
        shown(client.datasets.get(dataset_id).cancel(), as_json=as_json)


@dataset.command()
def delete(dataset_id: DatasetId) -> None:
    """Delete a data set with its images and masks."""
    with service() as client:
        client.datasets.get(dataset_id).delete()


@dataset.command()
def export(
    dataset_id: DatasetId,
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder, or a file that ends with .tar.")],
    form: Annotated[str, typer.Option("--format", "-f", help=f"{FORMATS}.")] = "coco",
    split: Annotated[float | None, typer.Option(help="The share of images for validation; 0.1 without it.")] = None,
    split_seed: Annotated[int | None, typer.Option(help="Which ones.")] = None,
    rest: Annotated[int | None, typer.Option(help="Label of what is no class: 0 or 255.")] = None,
    outlines: Annotated[str | None, typer.Option(help="rle or polygons.")] = None,
) -> None:
    """Write the accepted images with their masks for other tools."""
    options = given(split=split, split_seed=split_seed, rest=rest, outlines=outlines)
    with service() as client:
        note(f"wrote {client.datasets.get(dataset_id).export(out, form, **options)}")
