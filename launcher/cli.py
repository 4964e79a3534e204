"""The `ovam` command."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer

from contracts.settings import BadSettingsError, CommonSettings, load, without_secrets
from launcher import jobs, keys, store, webhooks
from launcher.children import BAD_SETTINGS, StartError
from launcher.processes import available, inherited, running
from launcher.variables import EverySetting, unknown_variables
from ovam import __version__
from ovam_client.cli import add_commands
from ovam_client.drivers import KEY, URL
from service.settings import GatewaySettings

FAILED = 1
LOOK_EVERY = 0.5  # seconds
MARKS = {"ok": "ok     ", "warning": "WARNING", "broken": "BROKEN "}

app = typer.Typer(
    help="Segment generated images by their attention: words, in the prompt or not, and learned tokens.", no_args_is_help=True
)
app.add_typer(keys.app, name="keys")
app.add_typer(store.app, name="store")
app.add_typer(webhooks.app, name="webhooks")
add_commands(app)
jobs.add_commands()
S = TypeVar("S", bound=CommonSettings)
G = TypeVar("G", bound=GatewaySettings)
Version = Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)]
Port = Annotated[int | None, typer.Option(min=0, max=65_535, help="Overrides OVAM_PORT; 0 picks a free port.")]


@app.callback(invoke_without_command=True)
def options(*, version: Version = False) -> None:
    """Segment generated images by their attention: words, in the prompt or not, and learned tokens."""
    if version:
        typer.echo(f"ovam {__version__}")
        raise typer.Exit


@app.command()
def serve(port: Port = None) -> None:
    """Run the gateway, which answers HTTP. It needs a Redis and at least one worker."""
    settings = with_port(usable(GatewaySettings), port)
    check_reach(settings)
    name_unknown_variables()
    from contracts.logs import configure_logging  # noqa: PLC0415  # other commands need not wait for it
    from contracts.state.connections import check_server  # noqa: PLC0415
    from contracts.state.store import ArtifactStore  # noqa: PLC0415
    from contracts.tracing import configure_tracing  # noqa: PLC0415
    from service.server import run  # noqa: PLC0415

    configure_logging(settings.log_level)
    try:
        configure_tracing("ovam-gateway")
        asyncio.run(check_server(settings.redis_url, must_answer=False))
    except BadSettingsError as error:
        end(f"the gateway cannot start: {error}", BAD_SETTINGS)
    try:
        ArtifactStore.at(settings.store)
    except Exception as error:  # noqa: BLE001  # obstore raises many kinds; each means the same here
        reason = without_secrets(f"{settings.store}: {error}")
        end(f"cannot open the artifact store {reason}. Correct OVAM_STORE_URL or OVAM_DATA_DIR.", FAILED)
    try:
        available(settings.host, settings.port)
    except StartError as error:
        end(str(error), FAILED)
    run(settings)


@app.command()
def worker() -> None:
    """Run a worker, which takes jobs from Redis and runs the models."""
    name_unknown_variables()
    os.execv(sys.executable, [sys.executable, "-m", "worker"])  # noqa: S606  # becomes the worker, signals and all


@app.command()
def up(port: Port = None) -> None:
    """Run everything on this machine: Valkey, a worker and the gateway. Ctrl-C stops them all."""
    settings = with_port(usable(EverySetting), port)
    check_reach(settings)
    name_unknown_variables()
    typer.echo("starting Valkey, a worker and the gateway ...")
    try:
        with running(os.environ, data_dir=settings.data_dir, host=settings.host, port=settings.port) as service:
            typer.echo(welcome(service.url, service.logs, keys_required=settings.keys_required))
            while True:
                for sentence in service.tend():
                    typer.echo(sentence, err=True)
                time.sleep(LOOK_EVERY)
    except StartError as error:
        end(str(error), error.code)
    except KeyboardInterrupt:
        typer.echo("stopped")


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("demo")) -> None:
    """Run the main job on the bundled model: generate, ask for words, learn a token, use it on another image."""
    data = usable(GatewaySettings).data_dir
    from launcher.demo import main  # noqa: PLC0415  # other commands need not wait for them
    from ovam_client import OvamServiceError  # noqa: PLC0415

    try:
        out.mkdir(parents=True, exist_ok=True)
        data.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="demo-", dir=data))
        with running(inherited("OVAM_DEVICE", "OVAM_THREADS"), data_dir=folder) as service:
            main(service.url, out)
    except (StartError, OvamServiceError, OSError) as error:
        end(f"the demo failed: {error}", FAILED)
    except KeyboardInterrupt:
        end("the demo was stopped", FAILED)
    shutil.rmtree(folder)  # kept after a failure: its logs may explain it


@app.command()
def doctor() -> None:
    """Check the installation and the settings, and say how to repair what is broken."""
    from launcher.doctor import examine  # noqa: PLC0415  # other commands need not wait for it

    broken = 0
    for finding in examine():
        typer.echo(f"{MARKS[finding.verdict]} {finding.thing}: {finding.detail}")
        if finding.remedy:
            typer.echo(f"        -> {finding.remedy}")
        broken += finding.verdict == "broken"
    if broken:
        end("1 thing is broken" if broken == 1 else f"{broken} things are broken", FAILED)


@app.command()
def workers(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the workers that are alive: host, models, device, memory, state, and the jobs that each has claimed."""
    from contracts.state.presence import heartbeats  # noqa: PLC0415  # other commands need not wait for them
    from launcher.reach import with_redis  # noqa: PLC0415

    beats = with_redis(heartbeats)
    if as_json:
        typer.echo(json.dumps([beat.model_dump(mode="json") for beat in beats]))
        return
    from rich.console import Console  # noqa: PLC0415

    from contracts.schema.jobs import utc_now  # noqa: PLC0415
    from launcher.workers import table_of  # noqa: PLC0415

    Console().print(table_of(beats, utc_now()))


@app.command()
def top(
    url: Annotated[str, typer.Option(help="The gateway; by default OVAM_URL, or else OVAM_HOST and OVAM_PORT.")] = "",
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 2.0,
    *,
    once: Annotated[bool, typer.Option("--once", help="Print one table and leave.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each look instead.")] = False,
) -> None:
    """Show lanes, jobs and workers, live, from a gateway's /metrics. With keys on, OVAM_API_KEY needs the scope admin."""
    from rich.console import Console  # noqa: PLC0415  # other commands need not wait for them

    from launcher.top import UnreachableError, watch  # noqa: PLC0415

    settings = usable(GatewaySettings)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    place, key = url or os.environ.get(URL) or f"http://{host}:{settings.port}", os.environ.get(KEY, "")
    try:
        watch(place, key, every=every, once=once, as_json=as_json, console=Console())
    except UnreachableError as error:
        end(str(error), FAILED)
    except KeyboardInterrupt:
        pass


def with_port(settings: G, port: int | None) -> G:
    """Return a gateway's settings with the port of the command line, if there is one."""
    return settings if port is None else settings.model_copy(update={"port": port})


def name_unknown_variables() -> None:
    """Warn of variables that look like settings but are none."""
    for name, hint in unknown_variables():
        typer.echo(f"WARNING: there is no setting {name}: {hint}", err=True)


def check_reach(settings: GatewaySettings) -> None:
    """Leave with exit code 2 if other machines could reach a gateway of which nobody decided whom it lets in."""
    if settings.undecided:
        end(f"the service cannot start: {settings.undecided}", BAD_SETTINGS)


def usable(kind: type[S]) -> S:
    """Return settings from the environment; leave with exit code 2 if a variable has a bad value."""
    try:
        return load(kind)
    except BadSettingsError as error:
        end(f"the service cannot start: {error}", BAD_SETTINGS)


def end(message: str, code: int) -> NoReturn:
    """Print a message on standard error and leave."""
    typer.echo(f"ovam: {message}", err=True)
    raise typer.Exit(code)


def welcome(url: str, logs: Path, *, keys_required: bool = False) -> str:
    """Return what `up` prints when the service is ready: where it is, and two calls to try."""
    body = """'{"prompt": "a photograph of a car", "seed": 1}'"""
    header = " -H 'Authorization: Bearer ovam_...'" if keys_required else ""
    return f"""ready at {url}  (API: {url}/docs, logs: {logs})
try:
  curl -s {url}/v1/models{header}
  curl -s {url}/v1/generate{header} -H 'Content-Type: application/json' -H 'Prefer: wait=60' -d {body}
Ctrl-C stops everything"""
