"""Reading what packages the service: the Dockerfile, the compose file, requirements, and the settings they set."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate
from pathlib import Path
from typing import Any

import typer
import yaml
from packaging.requirements import Requirement
from typer.core import TyperGroup

from contracts.settings import CommonSettings
from launcher.cli import app as cli
from service.settings import GatewaySettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS: tuple[type[CommonSettings], ...] = (GatewaySettings, WorkerSettings)


@dataclass(frozen=True)
class Instruction:
    """A line of a Dockerfile, its continuations joined: `COPY`, `--from=a b c`, and the stage it belongs to."""

    keyword: str
    rest: str
    stage: str

    @property
    def words(self) -> list[str]:
        """The arguments without flags."""
        return [word for word in shlex.split(self.rest) if not word.startswith("--")]


def dockerfile(path: Path = ROOT / "Dockerfile") -> list[Instruction]:
    """The instructions in their order."""
    kept = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    lines = re.sub(r"\\\n\s*", "", "\n".join(kept)).splitlines()
    pairs = [line.split(maxsplit=1) for line in lines]
    stages = accumulate((rest.split()[-1] if keyword == "FROM" else "" for keyword, rest in pairs), lambda old, new: new or old)
    return [Instruction(keyword, rest, stage) for (keyword, rest), stage in zip(pairs, stages, strict=True)]


def image_environment() -> dict[str, str]:
    """The variables that the image sets."""
    words = [word for line in dockerfile() if line.keyword == "ENV" and line.stage == "service" for word in line.words]
    return dict(word.split("=", 1) for word in words)


def compose() -> dict[str, Any]:
    """The compose file, anchors resolved."""
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def own_services() -> dict[str, dict[str, Any]]:
    """The services of the compose file that run our own image."""
    return {name: service for name, service in compose()["services"].items() if "build" in service}


def ignored(path: str, patterns: Path = ROOT / ".dockerignore") -> bool:
    """Whether .dockerignore keeps a path out: of all patterns that match it or a folder above it, the last one decides."""
    out = False
    for line in patterns.read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            keeps = pattern.startswith("!")
            if _matches(path, pattern.lstrip("!").strip("/")):
                out = not keeps
    return out


def _matches(path: str, pattern: str) -> bool:
    parts = path.split("/")
    prefixes = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    if pattern.startswith("**/"):
        return any(fnmatchcase(part, pattern.removeprefix("**/")) for part in parts)
    depth = pattern.count("/")
    return any(fnmatchcase(prefix, pattern) for prefix in prefixes if prefix.count("/") == depth)


def project() -> dict[str, Any]:
    """The `[project]` table and the tools' tables of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def declared() -> list[Requirement]:
    """What pyproject.toml asks for, the extras of the product included; `ray` is the examples'."""
    table = project()["project"]
    extras = [lines for extra, lines in table.get("optional-dependencies", {}).items() if extra != "ray"]
    return [Requirement(line) for lines in (table["dependencies"], *extras) for line in lines]


def pins(name: str) -> dict[str, Requirement]:
    """The requirements of a requirements file, by name in lower case, options removed."""
    found = {}
    for line in requirement_lines(name):
        requirement = Requirement(line.split(" --", 1)[0])
        found[canonical(requirement.name)] = requirement
    return found


def requirement_lines(name: str) -> Iterator[str]:
    """The lines of a requirements file that ask for a package."""
    for line in (ROOT / name).read_text().splitlines():
        if line.strip() and not line.startswith(("#", "-r ")):
            yield line.strip()


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def variables() -> dict[str, type[CommonSettings]]:
    """Every `OVAM_*` variable, with the settings it belongs to."""
    return {f"OVAM_{field.upper()}": kind for kind in SETTINGS for field in kind.model_fields}


def commands() -> set[str]:
    """The commands of `ovam`."""
    group = typer.main.get_command(cli)
    return set(group.commands) if isinstance(group, TyperGroup) else set()
