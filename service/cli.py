"""The `ovam` command."""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from contracts.settings import BadSettingsError, load
from service.processes import StartError, available, inherited, running
from service.settings import GatewaySettings

BAD_SETTINGS = 2
FAILED = 1
LOOK_EVERY = 0.5  # seconds
GRACE = 3  # seconds that open connections have when the gateway stops
MARKS = {"ok": "ok     ", "warning": "WARNING", "broken": "BROKEN "}

app = typer.Typer(help="Where in a generated image is this? Attention maps of Stable Diffusion over HTTP.", no_args_is_help=True)
Port = Annotated[int | None, typer.Option(min=0, max=65_535, help="instead of OVAM_PORT; 0 for a free one")]


@app.command()
def serve(port: Port = None) -> None:
    """Run the gateway: HTTP in front of Redis and the store."""
    settings = chosen(port)
    import uvicorn  # noqa: PLC0415  # other commands need not wait for it

    from contracts.store import ArtifactStore  # noqa: PLC0415
    from service.app import create_app  # noqa: PLC0415
    from service.observability import configure_logging  # noqa: PLC0415

    configure_logging(settings.log_level)
    try:
        ArtifactStore.at(settings.store)
    except Exception as error:  # noqa: BLE001  # obstore raises many kinds; each means the same here
        end(f"cannot open the artifact store {settings.store}: {error}. Correct OVAM_STORE_URL or OVAM_DATA_DIR.", FAILED)
    try:
        available(settings.host, settings.port)
    except StartError as error:
        end(str(error), FAILED)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE,
    )


@app.command()
def worker() -> None:
    """Run a worker: it takes jobs from Redis and runs the models."""
    os.execv(sys.executable, [sys.executable, "-m", "worker"])  # noqa: S606  # becomes the worker, signals and all


@app.command()
def up(port: Port = None) -> None:
    """Run everything on this machine: Valkey, a worker and the gateway. Ctrl-C stops it all."""
    settings = chosen(port)
    typer.echo("starting Valkey, a worker and the gateway ...")
    try:
        with running(os.environ, data_dir=settings.data_dir, host=settings.host, port=settings.port) as service:
            typer.echo(welcome(service.url, service.logs))
            while True:
                service.check()
                time.sleep(LOOK_EVERY)
    except StartError as error:
        end(str(error), FAILED)
    except KeyboardInterrupt:
        typer.echo("stopped")


@app.command()
def demo(out: Annotated[Path, typer.Option(help="folder for what the demo writes")] = Path("demo")) -> None:
    """Show the main job from end to end: generate, ask where, learn a token, use it on another image."""
    data = chosen(None).data_dir
    from experiments.client import JobFailed  # noqa: PLC0415  # they import torch
    from experiments.demo import main  # noqa: PLC0415

    try:
        data.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="demo-", dir=data))
        with running(inherited("OVAM_DEVICE", "OVAM_THREADS"), data_dir=folder) as service:
            main(service.url, out)
    except (StartError, JobFailed, OSError) as error:
        end(f"the demo failed: {error}", FAILED)
    except KeyboardInterrupt:
        end("the demo was stopped", FAILED)
    shutil.rmtree(folder)  # kept after a failure: its logs may explain it


@app.command()
def doctor() -> None:
    """Say what is installed and what can be reached, and what to mend."""
    from service.doctor import examine  # noqa: PLC0415  # other commands need not wait for it

    broken = 0
    for found in examine():
        typer.echo(f"{MARKS[found.verdict]} {found.thing}: {found.detail}")
        if found.mend:
            typer.echo(f"        -> {found.mend}")
        broken += found.verdict == "broken"
    if broken:
        end(f"{broken} things are broken", FAILED)


def chosen(port: int | None) -> GatewaySettings:
    """The settings, with the port of the command line if it has one; exit code 2 if they cannot be used."""
    try:
        settings = load(GatewaySettings)
    except BadSettingsError as error:
        end(f"the service cannot start: {error}", BAD_SETTINGS)
    return settings if port is None else settings.model_copy(update={"port": port})


def end(message: str, code: int) -> NoReturn:
    """Leave with a sentence."""
    typer.echo(f"ovam: {message}", err=True)
    raise typer.Exit(code)


def welcome(url: str, logs: Path) -> str:
    """Where the service is and what to try."""
    body = """'{"prompt": "a photograph of a car", "seed": 1}'"""
    return f"""ready at {url}  (API: {url}/docs, logs: {logs})
try:
  curl -s {url}/v1/models
  curl -s {url}/v1/generate -H 'Content-Type: application/json' -H 'Prefer: wait=60' -d {body}
Ctrl-C stops everything"""
