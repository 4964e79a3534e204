"""`python -m service` is the `ovam` command."""

from service.cli import app

app()
