"""The README is true: its curl calls and its library example run as printed, and give the answers that it shows."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.world.annotator import Annotator
from launcher.demo import overlap
from ovam_client import Client

README = (Path(__file__).parents[2] / "README.md").read_text()
FIRST_SCREEN = README.partition("\n## ")[0]
RIGHT = 0.7  # IoU from which on a mask is called right
JOB_ID = re.compile(r"[0-9a-z]{26}")


def blocks(language: str, text: str = README) -> list[str]:
    """The code blocks of a text in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def assert_holds(shown: Any, real: Any, place: str = "") -> None:
    """Hold a shortened answer to the real one: job ids differ, numbers may a little, lists have the same length."""
    match shown:
        case dict():
            for name, value in shown.items():
                assert name in real, f"{place}.{name}"
                assert_holds(value, real[name], f"{place}.{name}")
        case list():
            assert len(shown) == len(real), place
            for number, (one, other) in enumerate(zip(shown, real, strict=True)):
                assert_holds(one, other, f"{place}.{number}")
        case int():
            assert real == pytest.approx(shown, rel=0.03, abs=1), place  # pixels
        case float():
            assert real == pytest.approx(shown, abs=0.02), place
        case str():
            assert JOB_ID.sub("<id>", real) == JOB_ID.sub("<id>", shown), place
        case _:
            pytest.fail(f"{place} shows {shown!r}")


@pytest.fixture(scope="module")
def folder(service_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the calls of the first screen ran; what they printed is in `printed.txt`."""
    found = tmp_path_factory.mktemp("readme")
    script = "\n".join(block for block in blocks("sh", FIRST_SCREEN) if "curl" in block)
    script = script.replace("localhost:8000", service_url.removeprefix("http://"))
    shell = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(shell, cwd=found, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    (found / "printed.txt").write_text(done.stdout)
    return found


@pytest.mark.e2e
def test_the_curl_calls_of_the_first_screen_answer_as_printed(folder: Path, service_url: str) -> None:
    for shown, name in zip(blocks("json", FIRST_SCREEN), ("car", "segments"), strict=True):
        assert_holds(json.loads(shown), json.loads((folder / f"{name}.json").read_text()), name)
    (shown,) = blocks("text", FIRST_SCREEN)
    printed = JOB_ID.sub("<id>", (folder / "printed.txt").read_text())
    assert printed.endswith(JOB_ID.sub("<id>", shown.replace("http://localhost:8000", service_url)))


@pytest.mark.e2e
def test_the_mask_of_the_first_screen_is_right(folder: Path) -> None:
    car = Annotator.load().mask(np.array(Image.open(folder / "car.png")), "car")
    assert overlap(np.array(Image.open(folder / "mask.png")) > 127, car) > RIGHT


@pytest.mark.e2e
def test_the_client_s_example_works_as_printed(service_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVAM_URL", service_url)
    example, _ = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102
    with Client(service_url) as client:  # the example's own is closed
        car = Annotator.load().mask(np.array(client.jobs.get(names["job"].id).image()), "car")
    assert overlap(names["automobile"].mask, car) > RIGHT


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_library_example_works_as_printed() -> None:
    _, example = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102
    assert overlap(names["segment"].mask, Annotator.load().mask(np.array(names["image"]), "car")) > RIGHT
    assert names["picture"].shape == (128, 128, 3)
