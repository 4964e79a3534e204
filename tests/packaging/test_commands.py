import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.files import ROOT

DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    ".ci/run",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")),
]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # our own Makefile
        ["/usr/bin/env", "make", "--no-print-directory", *arguments],
        cwd=folder,
        env={**os.environ, "MAKEFLAGS": "", **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_command_that_is_written_somewhere_exists(name: str) -> None:
    text = (ROOT / name).read_text()
    named = set(re.findall(r"(?:`|^\s*|\s{4}|\"|^step .* )make ([a-z0-9-]+)", text, flags=re.MULTILINE))
    assert named <= targets()


def test_the_commands_of_the_documents_are_there() -> None:
    assert {"install", "demo", "test", "check", "bench", "eval", "eval-quick", "lint", "types", "imports", "clean"} <= targets()


def test_ci_ends_with_the_tests_and_runs_everything_before() -> None:
    script = (ROOT / ".ci/run").read_text()
    steps = re.findall(r"^step \"[^\"]*\" .*make ([a-z]+)", script, flags=re.MULTILINE)
    assert steps == ["dev", "clients", "lint", "types", "imports", "demo", "chaos", "fuzz", "test"]
    assert script.rstrip().endswith("make test")
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    folder = clone(tmp_path)
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\ncase $1 in --version) echo Python 3.8.1;; *) exit 1;; esac\n")
    old.chmod(0o755)
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        (tmp_path / "bin" / name).symlink_to(old)
    run = make(folder, "install", PATH=str(tmp_path / "bin"))
    assert run.returncode != 0
    assert "Python 3.11 or newer is needed; python3 is Python 3.8.1" in run.stderr
    assert not (folder / ".venv").exists()


def test_nothing_is_installed_twice(tmp_path: Path) -> None:
    folder = clone(tmp_path)
    (folder / ".venv").mkdir()
    (folder / ".venv/.installed").touch()
    (folder / ".venv/.installed-dev").touch()
    run = make(folder, "install")
    assert run.returncode == 0
    assert "Installing" not in run.stdout


def clone(tmp_path: Path) -> Path:
    """A folder with what `make install` reads, and a folder of the programs it may find."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "env", "make", "test", "mkdir", "sh", "awk"):
        found = shutil.which(name)
        if found:
            (programs / name).symlink_to(found)
    return folder
