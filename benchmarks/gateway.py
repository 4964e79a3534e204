"""The gateway's own measurement: what its import costs."""

import subprocess
import sys

from benchmarks.result import ROOT, Result, Setup, median

CODE = """
import sys, time
start = time.perf_counter()
import service.app
print(time.perf_counter() - start, time.process_time(), len(sys.modules), "torch" in sys.modules)
"""


def gateway_import(setup: Setup) -> Result:
    """How long `import service.app` takes in an interpreter that has imported nothing yet, and what it brings in."""
    lines = [fresh_import() for _ in range(setup.times(5) + 1)][1:]  # the first one may have to read from disk
    samples = [float(line[0]) for line in lines]
    return Result(
        name="gateway_import",
        says="`import service.app` in a fresh interpreter, median",
        value=median(samples),
        unit="s",
        goal=1.5,
        samples=samples,
        details={
            "cpu_seconds": median([float(line[1]) for line in lines]),
            "modules": int(lines[0][2]),
            "torch_imported": any(line[3] == "True" for line in lines),
        },
    )


def fresh_import() -> list[str]:
    """Seconds, those of the processor, number of modules, whether torch is among them."""
    run = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)  # noqa: S603
    return run.stdout.split()
