"""Builds a wheel of a folder as pip does, with what is installed."""

import subprocess
import sys
from pathlib import Path


def wheel_of(source: Path, out: Path) -> Path:
    """The wheel of a project's folder, which pip may write to: give it a copy."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True, capture_output=True, timeout=120)
    (found,) = out.glob("*.whl")
    return found
