import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from experiments.evaluation.run import follow, run
from experiments.evaluation.tasks import Progress, Task, attempt, claimed, work_through


def noted(folder: Path, name: str) -> str:
    (folder / f"made-{name}-{os.getpid()}").touch()
    time.sleep(0.02)
    return name


def tasks(folder: Path, count: int = 20) -> list[Task]:
    return [Task(folder / "out" / f"{name}.txt", 1, partial(noted, folder, str(name))) for name in range(count)]


def do_all(folder: Path) -> None:
    work_through(tasks(folder))


def forever(folder: Path) -> None:
    def stuck() -> str:
        (folder / "begun").touch()
        time.sleep(60)
        return "late"

    attempt(Task(folder / "out" / "0.txt", 1, stuck))


def test_two_processes_share_the_tasks_and_do_none_twice(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=do_all, args=(tmp_path,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=30)
    made = [path.name.split("-")[1] for path in tmp_path.glob("made-*")]
    assert sorted(made, key=int) == [str(name) for name in range(20)]
    assert len({path.name.split("-")[2] for path in tmp_path.glob("made-*")}) == 2


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    all_of_them = tasks(tmp_path, 4)
    work_through(all_of_them[:2])
    for path in tmp_path.glob("made-*"):
        path.unlink()
    work_through(all_of_them)
    assert sorted(path.name.split("-")[1] for path in tmp_path.glob("made-*")) == ["2", "3"]
    assert [task.path.read_text() for task in all_of_them] == ["0", "1", "2", "3"]


def test_a_task_whose_process_was_killed_is_taken_up_again_and_leaves_no_half_file(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("fork").Process(target=forever, args=(tmp_path,))
    worker.start()
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    again = tasks(tmp_path, 1)[0]
    assert not attempt(again)
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join()
    assert not again.done
    assert attempt(again)
    assert again.path.read_text() == "0"


@dataclass
class Endless:
    """A plan that never ends."""

    folder: Path

    @property
    def stages(self) -> dict[str, Callable[[], list[Task]]]:
        return {"endless": lambda: [Task(self.folder / "out" / "0.txt", 1, self.stuck)]}

    def stuck(self) -> str:
        (self.folder / f"begun-{os.getpid()}").touch()
        time.sleep(60)
        return "late"

    def cost(self) -> float:
        return 1


def test_a_run_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    leader = multiprocessing.get_context("fork").Process(target=run, args=(Endless(tmp_path), 1))
    leader.start()
    while not (begun := [*tmp_path.glob("begun-*")]):
        time.sleep(0.05)
    os.kill(leader.pid or 0, signal.SIGKILL)
    leader.join()
    worker = int(begun[0].name.removeprefix("begun-"))
    for _ in range(200):
        if not Path(f"/proc/{worker}/cmdline").exists() or not Path(f"/proc/{worker}/cmdline").read_bytes():
            break
        time.sleep(0.05)
    else:
        pytest.fail("it goes on")


def test_a_claim_is_held_by_one_alone(tmp_path: Path) -> None:
    with claimed(tmp_path / "a") as mine, claimed(tmp_path / "a") as other:
        assert mine
        assert not other
    with claimed(tmp_path / "a") as mine:
        assert mine


def test_time_left_is_told_by_the_pace_of_this_run() -> None:
    progress = Progress(whole=100, at_start=50, started=time.monotonic() - 60)
    assert "75.0 %  1:00 so far, 1:00 left" in progress.line("tuning", 75)
    assert "time left unknown" in progress.line("tuning", 50)


@dataclass
class InStages:
    """One task after another."""

    folder: Path

    @property
    def stages(self) -> dict[str, Callable[[], list[Task]]]:
        return {name: partial(tasks, self.folder / name, 1) for name in ("first", "second", "third")}

    def cost(self) -> float:
        return 3


def test_stages_that_were_done_before_say_nothing_of_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    plan = InStages(tmp_path)
    first, second, third = (stage() for stage in plan.stages.values())
    work_through([*first, *second])
    monkeypatch.setattr(time, "sleep", lambda _: attempt(third[0]))
    monkeypatch.setattr("experiments.evaluation.run.SECONDS_BETWEEN_LINES", -1)
    follow(plan, [])
    told = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in told] == ["first", "second", "third", "third"]
    assert all("time left unknown" in line for line in told[:3])
    assert told[3].endswith("0:00 left")
