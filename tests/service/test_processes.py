import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis

from service import processes
from service.processes import StartError, available, check, child, embedded_url, locked, running

OVAM = [sys.executable, "-m", "service"]
SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OVAM_")}
    return clean | {"OVAM_DATA_DIR": str(tmp_path / "my data"), "HF_HUB_OFFLINE": "1"}


def test_a_bad_setting_stops_the_start_with_a_sentence_and_exit_code_2(environment: dict[str, str]) -> None:
    done = subprocess.run([*OVAM, "serve"], env=environment | {"OVAM_PORT": "x"}, capture_output=True, check=False, text=True)
    assert done.returncode == 2
    assert "OVAM_PORT=x" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["serve", "up"])
def test_a_port_that_is_taken_stops_the_start_with_a_sentence(environment: dict[str, str], command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([*OVAM, command, "--port", port], env=environment, capture_output=True, check=False, text=True)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "--port 0" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_free_port_is_found() -> None:
    assert available("127.0.0.1", 0) > 1024


def test_processes_stop_in_the_opposite_order_also_after_an_error(tmp_path: Path) -> None:
    seen: list[int | None] = []
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(ZeroDivisionError))
        first = stack.enter_context(child("first", SLEEPER, os.environ, tmp_path))
        stack.callback(lambda: seen.extend([first.process.poll(), second.process.poll()]))
        second = stack.enter_context(child("second", SLEEPER, os.environ, tmp_path))
        raise ZeroDivisionError
    assert seen == [None, -signal.SIGTERM]
    assert first.process.poll() == -signal.SIGTERM


def test_a_process_that_will_not_go_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOPPED_WITHIN", 0.2)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    with child("stubborn", [sys.executable, "-c", stubborn], os.environ, tmp_path) as found:
        while "up" not in found.log.read_text():
            time.sleep(0.02)
    assert found.process.poll() == -signal.SIGKILL


def test_a_process_that_dies_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    with child("worker", [sys.executable, "-c", "raise SystemExit('no memory left')"], os.environ, tmp_path) as found:
        found.process.wait()
        with pytest.raises(StartError, match=r"(?s)the worker ended on its own \(exit code 1\).*no memory left"):
            check([found])


def test_a_data_folder_belongs_to_one_service_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(StartError, match="in use by another service"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_the_embedded_valkey_keeps_what_it_was_told_and_forgets_the_workers_of_the_last_time(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    for expected in (None, b"kept"):
        with ExitStack() as stack:
            url = embedded_url(stack, [], folder, os.environ)
            redis = stack.enter_context(Redis.from_url(url))
            assert redis.get("x") == expected
            assert not redis.exists("ovam:worker:w", "ovam:models")
            redis.set("x", "kept")
            redis.set("ovam:worker:w", "{}")
            redis.hset("ovam:models", "m", "{}")


def test_a_worker_that_cannot_start_ends_everything_and_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    broken = environment | {"OVAM_MAX_LOADED_MODELS": "x"}
    before = [signal.getsignal(number) for number in processes.SIGNALS]
    with (
        pytest.raises(StartError, match=r"(?s)the worker ended on its own.*OVAM_MAX_LOADED_MODELS"),
        running(broken, data_dir=tmp_path),
    ):
        pass
    assert [signal.getsignal(number) for number in processes.SIGNALS] == before


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


def test_the_doctor_names_what_is_broken_and_what_to_do(environment: dict[str, str]) -> None:
    sick = environment | {"OVAM_REDIS_URL": "redis://127.0.0.1:1", "OVAM_MODELS": '{"a": "/nowhere"}', "OVAM_TYPO": "1"}
    done = subprocess.run([*OVAM, "doctor"], env=sick, capture_output=True, check=False, text=True)
    assert done.returncode == 1
    for expected in ("BROKEN  Redis", "BROKEN  model a", "OVAM_MODELS", "WARNING OVAM_TYPO", "ok      store", "ok      torch"):
        assert expected in done.stdout
    assert "2 things are broken" in done.stderr
