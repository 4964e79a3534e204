import re
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ovam_client.drivers import KEY
from tests.packaging.files import ROOT, variables

README = ROOT / "README.md"
ROW = re.compile(r"^\| `(OVAM_[A-Z_]+)` \|([^|]*)\|(.*)\|$", flags=re.MULTILINE)
FOLDERS = ("launcher", "service", "worker", "ovam", "contracts")
PLACES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "Dockerfile", "docker-compose.yml")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/**/*.py")),
]


def readme() -> str:
    return README.read_text() if README.exists() else ""


def field(variable: str) -> FieldInfo:
    return variables()[variable].model_fields[variable.removeprefix("OVAM_").lower()]


def written(default: Any) -> str:
    """A default as the table has it; empty where there is none to write down."""
    if default in (PydanticUndefined, None, ""):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def expected_row(variable: str) -> str:
    return f"| `{variable}` | {written(field(variable).default)} | {field(variable).description} |"


def test_readme_has_a_row_for_every_setting() -> None:
    rows = {name for name, _, _ in ROW.findall(readme())}
    missing = [expected_row(name) for name in variables() if name not in rows]
    assert not missing, "README's table of settings lacks:\n" + "\n".join(missing)


def test_readme_has_no_row_for_what_is_no_setting() -> None:
    names = [name for name, _, _ in ROW.findall(readme())]
    assert sorted(set(names) - set(variables())) == []
    assert len(names) == len(set(names)), "a setting has two rows"


def test_readme_says_of_every_setting_what_its_field_says() -> None:
    rows = re.findall(r"^\| `OVAM_.*$", readme(), flags=re.MULTILINE)
    assert rows == [expected_row(name) for name in variables()]


@pytest.mark.parametrize("name", sorted(variables()))
def test_every_setting_says_what_it_is(name: str) -> None:
    assert field(name).description


@pytest.mark.parametrize("path", PLACES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_variable_that_is_named_somewhere_is_a_setting(path: Path) -> None:
    named = set(re.findall(r"\bOVAM_[A-Z]+(?:_[A-Z]+)*\b", path.read_text()))
    assert named <= {*variables(), KEY}
