"""`python -m benchmarks.gpu`: everything that needs a GPU, unattended and within 8 minutes.

First the kernels, for which torch and jaxtyping are enough; then, where the service's packages are installed, the tests marked
`gpu` and the library's rows. What does not fit into the time is named and left out.
"""

import argparse
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.kernels import kernels
from benchmarks.report import summarise, write
from benchmarks.result import ROOT, Setup, circumstances

TESTS = ("tests/ovam/fused_kernels.py", "tests/ovam/test_gpu.py")
PYTEST = ["pytest", "-q", "-m", "gpu", "-o", "addopts=", "-o", "filterwarnings=", *TESTS]
"""Without the plugins of the project's other tests, which may not be there."""
ROWS = (
    ("attribution", 90),
    ("learning", 60),
    ("crf", 30),
    ("growth", 60),
    ("capture", 60),
    ("batches", 40),
    ("variants", 40),
    ("optimisation", 40),
    ("tiers", 60),
    ("busy", 60),
)
"""What else is measured, and the seconds that it needs."""


def main(words: Sequence[str]) -> int:
    """Measure and test; returns how much failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="begin nothing that would end later (default 8)")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="folder that is written to")
    asked = parser.parse_args(words)
    if not torch.cuda.is_available():
        parser.error("torch sees no GPU")
    end = time.monotonic() + 60 * asked.minutes
    failures = kernel_rows(asked.results)
    for name, needed in (("pytest", 90), *ROWS):
        if time.monotonic() + needed > end:
            print(f"{name}: left out, no time", flush=True)
            continue
        command = PYTEST if name == "pytest" else rows_of(name, needed, asked.results)
        failures += subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode != 0  # noqa: S603
    print(summarise(asked.results))
    return failures


def rows_of(name: str, needed: int, results: Path) -> list[str]:
    """The command of a measurement that takes so many seconds."""
    return ["benchmarks", name, "--repeats", "5", "--seconds", str(needed / 4), "--results", str(results)]


def kernel_rows(results: Path) -> int:
    """Measure the kernels; returns 1 if that failed."""
    setup = Setup(ROOT / "models" / "world", None, 60, None, "cuda", results)
    around = circumstances(setup)
    try:
        for result in kernels(setup):
            write(results, result, around)
            print(f"{result.name}: {result.value:.4g} {result.unit}, {result.details}", flush=True)
    except Exception:  # noqa: BLE001 - the rest is still worth having
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
