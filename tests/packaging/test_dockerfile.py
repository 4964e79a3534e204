import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.packaging.files import (
    ROOT,
    Instruction,
    commands,
    dockerfile,
    ignored,
    image_environment,
    own_services,
    project,
    variables,
)


def lines(keyword: str, stage: str) -> list[Instruction]:
    return [line for line in dockerfile() if line.keyword == keyword and line.stage == stage]


def sources(line: Instruction) -> list[str]:
    return [] if "--from=" in line.rest else line.words[:-1]


def test_everything_that_is_copied_exists_and_is_sent_to_the_build() -> None:
    for line in dockerfile():
        if line.keyword == "COPY":
            for source in sources(line):
                assert (ROOT / source).exists(), f"COPY {source}: not in the repository"
                assert not ignored(source), f"COPY {source}: .dockerignore keeps it out"


def test_the_image_holds_every_package_and_the_bundled_model() -> None:
    copied = {source for line in lines("COPY", "service") for source in sources(line)}
    packages = {pattern.rstrip("*") for pattern in project()["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert copied == packages | {"pyproject.toml", "README.md", "LICENSE", "models/clip", "models/world"}


def test_files_that_only_a_checkout_needs_stay_out_of_the_build() -> None:
    kept_out = (
        ".git",
        ".venv",
        "data",
        "runs",
        "tests",
        "benchmarks",
        "experiments",
        "demo",
        ".env",
        "ovam/__pycache__",
        "models/other",
    )
    for path in kept_out:
        assert ignored(path), path


def test_packages_are_installed_before_the_code_is_copied_so_that_their_layer_is_reused() -> None:
    order = [line for line in dockerfile() if line.stage == "packages"]
    assert [source for line in order if line.keyword == "COPY" for source in sources(line)] == ["requirements.txt"]
    copies = lines("COPY", "service")
    assert "--from=packages" in copies[0].rest


def test_the_installer_is_the_one_of_make_install() -> None:
    pinned = next(
        line.split(":=")[1].strip() for line in (ROOT / "Makefile").read_text().splitlines() if "PIP_VERSION :=" in line
    )
    assert f"PIP_VERSION={pinned}" in [line.rest for line in lines("ARG", "packages")]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_each_device_has_its_torch(device: str) -> None:
    choice = next(line.rest for line in lines("RUN", "packages") if "DEVICE" in line.rest)
    assert f"{device}) " in choice
    assert "DEVICE=cpu" in [line.rest for line in lines("ARG", "packages")]


def test_the_python_of_the_image_is_one_that_the_project_allows() -> None:
    version = next(line.rest.split("=")[1] for line in dockerfile() if line.keyword == "ARG" and line.rest.startswith("PYTHON="))
    assert tuple(map(int, version.split("."))) >= (3, 11)


def test_no_container_runs_as_root() -> None:
    keywords = [line.keyword for line in dockerfile() if line.stage == "service"]
    assert [line.rest for line in lines("USER", "service")] == ["ovam"]
    assert "RUN" not in keywords[keywords.index("USER") :]


def test_every_variable_of_the_image_is_a_setting_with_a_good_value() -> None:
    known = variables()
    own = {name: value for name, value in image_environment().items() if name.startswith("OVAM_")}
    for name, value in own.items():
        assert name in known
        field = name.removeprefix("OVAM_").lower()
        assert str(getattr(known[name].model_validate({field: value}), field)) == value


def test_the_exposed_port_is_the_one_that_is_listened_on() -> None:
    assert [line.rest for line in lines("EXPOSE", "service")] == [image_environment()["OVAM_PORT"]]


def test_the_default_command_is_a_command_of_the_project() -> None:
    program, command = json.loads(lines("CMD", "service")[0].rest)
    assert project()["project"]["scripts"][program] == "launcher.cli:app"
    assert command in commands()


def test_a_relative_path_lies_where_the_user_of_the_image_may_write() -> None:
    folders = [line.rest for line in lines("WORKDIR", "service")]
    assert folders[-1:] == [line.rest for line in lines("VOLUME", "service")]


def test_the_cuda_image_and_the_cpu_image_have_different_names() -> None:
    by_device = {service["build"]["args"]["DEVICE"]: service["image"] for service in own_services().values()}
    assert set(by_device) == {"cpu", "cuda"}
    assert len(set(by_device.values())) == 2


@pytest.fixture(params=[200, 503])
def answering(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """A server that answers /healthz with a status; its port and the status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, request.param
        server.shutdown()
        thread.join()


def test_the_health_check_believes_the_gateway(answering: tuple[int, int]) -> None:
    port, status = answering
    check = json.loads(lines("HEALTHCHECK", "service")[0].rest.split("CMD", 1)[1])
    assert check[0] == "python"
    run = subprocess.run(  # the image's own check
        [sys.executable, *check[1:]], env={**os.environ, "OVAM_PORT": str(port)}, check=False, capture_output=True, timeout=30
    )
    assert (run.returncode == 0) == (status == 200)
