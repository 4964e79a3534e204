"""The `ovam-experiments` command."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from experiments.evaluation import stages
from experiments.evaluation.run import WorkFailedError, run
from experiments.evaluation.stages import Plan

app = typer.Typer(help="The paper's evaluation on a world with known truth.", no_args_is_help=True)
Model = Annotated[Path, typer.Option(help="the pipeline to evaluate", exists=True, file_okay=False)]
Work = Annotated[Path, typer.Option(help="folder for what is under way; delete it to start over")]
Processes = Annotated[int, typer.Option(min=1, help="of one thread each; start more elsewhere at will")]
MODEL, WORK = Path("models/tiny"), Path("runs/evaluation")


@app.command()
def evaluate(model: Model = MODEL, work: Work = WORK, processes: Processes = 2) -> None:
    """Learn tokens, choose thresholds, measure everything, write results and docs/results.md. Goes on where it stopped."""
    plan = Plan(model, work)
    through(plan, processes)


@app.command()
def quick(model: Model = MODEL, work: Work = WORK, processes: Processes = 2) -> None:
    """Measure the published methods and ours on a few images; rows of JSON on standard output."""
    plan = Plan(model, work, stages.QUICK)
    through(plan, processes)


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
