import os
import signal
import stat
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis

from launcher import children, processes
from launcher.children import Child, StartError, child
from launcher.processes import Running, available, inherited, locked, running, url_of, wait_until_ready
from launcher.signals import SIGNALS, signals_interrupt
from launcher.valkey import embedded_url

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


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
    monkeypatch.setattr(children, "STOPPED_WITHIN", 0.2)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    with child("stubborn", [sys.executable, "-c", stubborn], os.environ, tmp_path) as found:
        while "up" not in found.log.read_text():
            time.sleep(0.02)
    assert found.process.poll() == -signal.SIGKILL


def test_a_process_that_dies_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    code = "print(*['at first', *range(30)], sep='\\n', flush=True); raise SystemExit('no memory left')"
    with child("worker", [sys.executable, "-c", code], os.environ, tmp_path) as found:
        found.process.wait()
        with pytest.raises(StartError, match=r"(?s)the worker ended on its own \(exit code 1\).*no memory left") as raised:
            found.check()
    assert "at first" not in str(raised.value)
    assert raised.value.code == 1


DYING = "import os, sys, time; print('pid', os.getpid(), flush=True); time.sleep({}); sys.exit('dead')"


def tended(dying: Child, seconds: float) -> list[str]:
    """What is said of a process that is tended for a while."""
    sentences, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        sentences += [sentence] if (sentence := dying.tend()) else []
        time.sleep(0.01)
    return sentences


def test_a_process_that_dies_is_started_again_and_its_log_goes_on(tmp_path: Path) -> None:
    for _ in range(2):  # the second run of everything keeps the first one's log
        with child("worker", [sys.executable, "-c", DYING.format(60)], os.environ, tmp_path) as found:
            while not found.log.read_text().rstrip().rpartition("\n")[2].startswith("pid"):
                time.sleep(0.02)
            os.kill(found.process.pid, signal.SIGKILL)
            found.process.wait()
            assert found.tend() == f"the worker ended on its own (exit code -9) and is started again in 1 s; log: {found.log}"
            assert tended(found, 1.2) == []
            assert found.process.poll() is None
    assert found.log.read_text().count("--- worker starts") == 4


def test_a_process_that_dies_again_and_again_ends_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "MOST_DEATHS", 2)
    with child("worker", [sys.executable, "-c", DYING.format(0)], os.environ, tmp_path) as found:
        found.process.wait()
        with pytest.raises(StartError, match=r"(?s)the worker ended .*exit code 1, 2 times in 10 minutes.*dead"):
            tended(found, 60)


def test_a_log_that_grows_large_is_put_aside_while_its_process_goes_on_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "LOG_BYTES", 2000)
    writing = "import time\nfor number in range(10**6): print(f'line {number}', flush=True); time.sleep(0.001)"
    with child("worker", [sys.executable, "-c", writing], os.environ, tmp_path) as found:
        while not (tmp_path / "worker.log.3").exists():
            assert found.tend() is None
            time.sleep(0.01)
    assert {path.name for path in tmp_path.iterdir()} == {f"worker.log{end}" for end in ("", ".1", ".2", ".3")}
    old = [(tmp_path / f"worker.log.{number}").read_bytes() for number in (2, 1)]
    assert all(b"\0" not in each for each in old)
    assert len(b"".join(old)) < 20_000


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_block_as_ctrl_c_does(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), signals_interrupt():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before


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


@pytest.mark.parametrize("folder", ["my data", "a folder whose path is too deep for a socket" * 3])
def test_only_its_owner_can_reach_the_embedded_valkey(tmp_path: Path, folder: str) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(Redis.from_url(embedded_url(stack, [], tmp_path / folder, os.environ)))
        assert redis.config_get("port") == {"port": "0"}
        assert redis.config_get("maxmemory*")["maxmemory"] == str(2**30)
        assert redis.config_get("maxmemory*")["maxmemory-policy"] == "noeviction"
        socket = Path(redis.config_get("unixsocket")["unixsocket"])
        assert stat.filemode(socket.stat().st_mode) == "srw-------"
        assert stat.filemode(socket.parent.stat().st_mode) == "drwx------"
    assert not socket.exists()


def test_a_process_that_refuses_its_settings_is_quoted_in_one_line(tmp_path: Path) -> None:
    refusing = "import sys; print('loading'); print('the worker cannot start: OVAM_X=1: no', file=sys.stderr); sys.exit(2)"
    with child("worker", [sys.executable, "-c", refusing], os.environ, tmp_path) as found:
        found.process.wait()
        with pytest.raises(StartError, match=r"^the worker cannot start: OVAM_X=1: no$") as raised:
            found.check()
    assert raised.value.code == 2


def test_a_worker_that_cannot_start_ends_everything(environment: dict[str, str], tmp_path: Path) -> None:
    broken = environment | {"OVAM_MAX_LOADED_MODELS": "x"}
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(StartError, match=r"OVAM_MAX_LOADED_MODELS"), running(broken, data_dir=tmp_path):
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with locked(tmp_path):
        pass


def test_a_redis_that_is_given_is_used_and_none_is_started(environment: dict[str, str], tmp_path: Path, redis_url: str) -> None:
    broken = environment | {"OVAM_MAX_LOADED_MODELS": "x", "OVAM_REDIS_URL": redis_url}
    with pytest.raises(StartError, match="OVAM_MAX_LOADED_MODELS"), running(broken, data_dir=tmp_path):
        pass
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["gateway.log", "worker.log"]


def test_a_service_that_does_not_get_ready_ends_the_wait_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "READY_WITHIN", 0.5)
    with child("gateway", SLEEPER, os.environ, tmp_path) as sleeper:
        service = Running(f"http://127.0.0.1:{available('127.0.0.1', 0)}", "", tmp_path, (sleeper,))
        with pytest.raises(StartError, match=r"not ready after .* the gateway does not answer"):
            wait_until_ready(service)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),  # noqa: S104  # compared, not bound
        ("::", "http://[::1]:8000"),
        ("fe80::1", "http://[fe80::1]:8000"),
        ("ovam.example", "http://ovam.example:8000"),
    ],
)
def test_the_url_is_one_that_this_machine_reaches(host: str, url: str) -> None:
    assert url_of(host, 8000) == url


def test_settings_are_inherited_only_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OVAM_DEVICE", "OVAM_MODELS", "OTHER"):
        monkeypatch.setenv(name, "x")
    found = inherited("OVAM_DEVICE", "OVAM_THREADS")
    assert {name for name in found if name.startswith("OVAM_")} == {"OVAM_DEVICE"}
    assert found["OTHER"] == "x"
