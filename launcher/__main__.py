"""`python -m launcher` is the `ovam` command."""

from launcher.cli import app

if __name__ == "__main__":
    app(prog_name="ovam")
