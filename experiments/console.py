"""What all commands of the experiments share: doing work with its progress shown, and ending in a line."""

import shlex
import sys
from typing import NoReturn

import typer

from experiments.evaluation.run import Plan, WorkFailedError, run


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
