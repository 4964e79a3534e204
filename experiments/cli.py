"""The `ovam-experiments` command."""

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from experiments.evaluation import adopting, earlier, folder, stages, summary
from experiments.evaluation.quick import quick_rows
from experiments.evaluation.run import WorkFailedError, run
from experiments.evaluation.stages import Plan

app = typer.Typer(help="The paper's evaluation on a world with known truth.", no_args_is_help=True)
Model = Annotated[Path, typer.Option(help="the pipeline to evaluate", exists=True, file_okay=False)]
Work = Annotated[Path, typer.Option(help="folder for what is under way; delete it to start over")]
Processes = Annotated[int, typer.Option(min=1, help="of one thread each; start more elsewhere at will")]
Results = Annotated[Path, typer.Option(help="folder for the results' JSON")]
Docs = Annotated[Path, typer.Option(help="folder for results.md, and results/ with its pictures")]
Url = Annotated[str, typer.Option(metavar="URL", help="ask this service, which serves the model by its folder's name")]
MODEL, WORK, RESULTS, DOCS = Path("models/tiny"), Path("runs/evaluation"), Path("experiments/results"), Path("docs")


class Images(StrEnum):
    """How many images are made."""

    FEW = "few"
    ALL = "all"


@app.command()
def evaluate(
    model: Model = MODEL, work: Work = WORK, processes: Processes = 2, results: Results = RESULTS, docs: Docs = DOCS
) -> None:
    """Learn tokens, choose thresholds, measure everything, write results and their page. Goes on where it stopped."""
    plan = Plan(model, work)
    through(plan, processes)
    conclude(plan, results, docs)


def conclude(plan: Plan, results: Path, docs: Path) -> None:
    """Write everything that comes of a plan's work."""
    from experiments.evaluation import gallery  # noqa: PLC0415  # other commands need no model

    earlier.keep(results, plan.model_hash)
    summary.write(summary.summarise(plan, command()), results)
    summary.write_images(plan.lines(), results / "images.jsonl")
    gallery.draw(plan, docs / "results")
    report(results, docs)


@app.command()
def report(results: Results = RESULTS, docs: Docs = DOCS) -> None:
    """Write the page and the plots of results that are there."""
    from experiments.evaluation import page, plots  # noqa: PLC0415  # plots take a package of the checks

    found = page.read(results)
    plots.draw(found["scores"], docs / "results")
    (docs / "results.md").write_text(page.page(found, "results"))
    print(f"wrote {docs / 'results.md'}")


@app.command()
def adopt(model: Model = MODEL, results: Results = RESULTS, docs: Docs = DOCS) -> None:
    """Make the best settings the model's defaults where they are better in tuning and in reporting, and say so on the page."""
    try:
        found = adopting.adopt(results, model)
    except adopting.NotMeasuredError as error:
        end(str(error))
    for change in found:
        gains = ", ".join(f"{name} {100 * gain:+.1f}" for name, gain in change.gains.items())
        verb = "takes the place of" if change.better else "does not replace"
        print(f"{change.field}: {change.best} {verb} {change.now} ({gains})")
    report(results, docs)


@app.command()
def quick(
    model: Model = MODEL,
    work: Work = WORK,
    processes: Processes = 2,
    service: Url = "",
    images: Annotated[Images, typer.Option(help="of every set")] = Images.FEW,
    dataset: Annotated[Path | None, typer.Option(help="a folder of annotated images, all of which are taken")] = None,
) -> None:
    """Measure the published methods and ours on a few images; rows of JSON on standard output."""
    scale = stages.QUICK if images is Images.FEW else stages.HEADLINE
    try:
        scale = stages.scale_of(folder.read(dataset)) if dataset else scale
    except folder.BadDataSetError as error:
        end(str(error))
    plan = Plan(model, work, scale, service, dataset)
    through(plan, processes)
    for row in quick_rows(plan):
        print(json.dumps(row))


def command() -> str:
    """The command line that this process was started with."""
    return shlex.join(["python", "-m", "experiments", *sys.argv[1:]])


def through(plan: Plan, processes: int) -> None:
    """Do all work, or end with what went wrong."""
    try:
        run(plan, processes)
    except WorkFailedError as error:
        end(str(error))
    except KeyboardInterrupt:
        end("stopped; what is done is kept, the same command goes on")


def end(message: str) -> NoReturn:
    """Print why it ends and leave."""
    print(message, file=sys.stderr)
    raise typer.Exit(1)
