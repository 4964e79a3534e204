import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

OVAM = [sys.executable, "-m", "launcher"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a process, with no setting but a data folder of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OVAM_")}
    return clean | {"OVAM_DATA_DIR": str(tmp_path / "my data"), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}


@pytest.fixture
def ovam(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `ovam` with arguments and further variables until it ends."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [*OVAM, *arguments]
        return subprocess.run(command, env=environment | variables, capture_output=True, check=False, text=True, timeout=120)

    return run
