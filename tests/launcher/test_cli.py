import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

import ovam as library
from launcher.processes import locked
from tests.launcher.conftest import OVAM

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_the_version_is_the_library_s(ovam: Run) -> None:
    done = ovam("--version")
    assert done.stdout == f"ovam {library.__version__}\n"


@pytest.mark.parametrize("command", ["serve", "up", "demo"])
def test_a_bad_setting_of_the_gateway_stops_the_start_with_a_sentence_and_exit_code_2(ovam: Run, command: str) -> None:
    done = ovam(command, OVAM_PORT="x")
    assert done.returncode == 2
    assert "OVAM_PORT=x" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["worker", "up"])
def test_a_bad_setting_of_the_worker_stops_the_start_with_a_sentence_and_exit_code_2(
    ovam: Run, command: str, tmp_path: Path
) -> None:
    done = ovam(command, OVAM_DEVICE="tpu")
    assert done.returncode == 2
    assert "OVAM_DEVICE=tpu" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "my data").exists()  # nothing was started


def test_bad_settings_of_all_processes_are_told_at_once_before_anything_starts(ovam: Run, tmp_path: Path) -> None:
    done = ovam("up", OVAM_DEVICE="tpu", OVAM_MAX_STEPS="0")
    assert done.returncode == 2
    assert "OVAM_DEVICE=tpu" in done.stderr
    assert "OVAM_MAX_STEPS=0" in done.stderr
    assert not (tmp_path / "my data").exists()


@pytest.mark.parametrize("command", ["serve", "worker", "up"])
def test_a_store_that_lives_in_one_process_is_refused(ovam: Run, command: str) -> None:
    done = ovam(command, OVAM_STORE_URL="memory:///")
    assert done.returncode == 2
    assert "OVAM_STORE_URL=memory:///: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["serve", "worker", "up"])
def test_a_variable_that_is_no_setting_is_named(ovam: Run, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that nothing starts
        port, redis = str(taken.getsockname()[1]), "redis://127.0.0.1:1/0"
        done = ovam(command, OVAM_PORT=port, OVAM_REDIS_URL=redis, OVAM_JANITOR_SECOND="3")
    assert done.returncode != 0
    assert "there is no setting OVAM_JANITOR_SECOND: did you mean OVAM_JANITOR_SECONDS?" in done.stderr


@pytest.mark.parametrize("command", [("top", "--once"), ("jobs",)])
def test_commands_that_ask_a_gateway_ask_the_one_of_ovam_url(ovam: Run, command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    done = ovam(*command, OVAM_URL=url)
    assert done.returncode != 0
    assert url in done.stderr


@pytest.mark.parametrize("command", ["serve", "up"])
def test_a_port_that_is_taken_stops_the_start_with_a_sentence(ovam: Run, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = ovam(command, "--port", port)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "--port 0" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_cannot_be_opened_stops_the_start_with_a_sentence(ovam: Run) -> None:
    done = ovam("serve", "--port", "0", OVAM_STORE_URL="file:///proc/nowhere")
    assert done.returncode == 1
    assert "cannot open the artifact store file:///proc/nowhere" in done.stderr
    assert "OVAM_STORE_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_demo_whose_folder_cannot_be_made_says_so(ovam: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = ovam("demo", "--out", str(tmp_path / "file" / "demo"))
    assert done.returncode == 1
    assert "the demo failed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_everything_starts_with_one_command_and_stops_with_one_signal(
    environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    command = subprocess.Popen([*OVAM, "up", "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True)
    assert command.stdout
    lines = iter(command.stdout.readline, "")
    found = next(match for line in lines if (match := re.match(r"ready at (\S+)", line)))
    with urllib.request.urlopen(f"{found.group(1)}/readyz") as answer:  # noqa: S310  # our own gateway
        assert answer.status == 200
    command.send_signal(number)
    assert command.wait(60) == 0
    assert "stopped" in command.stdout.read()
    command.stdout.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{found.group(1)}/healthz")  # noqa: S310  # our own gateway
    with locked(tmp_path / "my data"):
        pass


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OVAM_MODELS": '{"far": "nobody/nothing"}'}, ("'nobody/nothing' is not in the local Hugging Face cache", "(offline)")),
        ({"OVAM_DEVICE": "cuda:99"}, ("OVAM_DEVICE", "cuda:99")),
    ],
    ids=["a hub id", "a GPU"],
)
def test_what_a_worker_cannot_have_stops_the_start_with_a_sentence(
    ovam: Run, variables: dict[str, str], expected: tuple[str, ...]
) -> None:
    done = ovam("up", "--port", "0", **variables)
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert all(each in sentence for each in expected)
