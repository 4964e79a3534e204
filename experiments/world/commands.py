"""Commands that end in a line, not in a traceback, when the atlas or weights of another one are at fault."""

from collections.abc import Callable

import typer

from experiments.world.atlas import AtlasError


def run(command: Callable[..., None]) -> None:
    """Run a command with the arguments of this process."""
    plainly(lambda: typer.run(command))


def plainly(work: Callable[[], None]) -> None:
    """Do it, or leave with what is wrong with the atlas."""
    try:
        work()
    except AtlasError as error:
        raise SystemExit(f"{error}") from error
