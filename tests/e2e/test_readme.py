"""The README is true: its curl calls and its library example run as printed, against the real service."""

import json
import re
import subprocess
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.e2e
def test_the_curl_calls_of_the_first_screen_work_as_printed(service_url: str, tmp_path: Path) -> None:
    (script,) = [block for block in blocks("sh") if "/v1/attribute" in block]
    script = script.replace("localhost:8000", service_url.removeprefix("http://"))
    shell = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["state"] == "succeeded"
    assert [segment["target"]["label"] for segment in answer["result"]["segments"]] == ["wheel"]
    assert (tmp_path / "car.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.e2e
def test_the_library_example_works_as_printed() -> None:
    (example,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102
    assert names["mask"].shape == (64, 64)
    assert names["mask"].any()
