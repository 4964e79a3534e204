"""`python -m experiments`: the paper's evaluation on the world with known truth."""

from experiments.cli import app

if __name__ == "__main__":
    app()
