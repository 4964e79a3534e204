"""The commands that ask a service: `ovam generate`, `attribute`, `learn`, `image`, `dataset`, `jobs`, `tokens`."""

import typer

from ovam_client.cli.asking import attribute
from ovam_client.cli.datasets import dataset
from ovam_client.cli.jobs import jobs
from ovam_client.cli.learning import learn, tokens
from ovam_client.cli.making import generate, image

PANEL = "Ask a service (OVAM_URL, OVAM_API_KEY)"


def add_commands(app: typer.Typer) -> None:
    """Give a program the commands of this client."""
    for command in (generate, image, attribute, learn):
        app.command(rich_help_panel=PANEL)(command)
    app.add_typer(dataset, name="dataset", rich_help_panel=PANEL)
    app.add_typer(jobs, name="jobs", rich_help_panel=PANEL)
    app.add_typer(tokens, name="tokens", rich_help_panel=PANEL)


def main() -> None:
    """The program of the client alone."""
    app = typer.Typer(help="Ask an OVAM service: generate images, find anything in them, learn tokens.", no_args_is_help=True)
    add_commands(app)
    app()
