"""Running all stages in several processes, and telling how far they are."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Protocol

from experiments.evaluation.tasks import Progress, Task, work_through
from worker.crf import end_with_parent

LOOKS = 2.0  # seconds
SECONDS_BETWEEN_LINES = 30  # in a log


class WorkFailedError(Exception):
    """A process ended in an error, which it has printed."""


class Plan(Protocol):
    """Work in stages, that of a later one known when the earlier ones are done."""

    @property
    def stages(self) -> Mapping[str, Callable[[], list[Task]]]:
        """The tasks of each, by its name."""
        ...

    def cost(self) -> float:
        """Of all tasks together, known before anything is done."""
        ...


def everything(plan: Plan) -> None:
    """Go through all stages, sharing every one with whoever else does."""
    for stage in plan.stages.values():
        work_through(stage())


def one_of_several(plan: Plan) -> None:
    """Do so in a process that ends with the one that started it, however that ends."""
    Thread(target=end_with_parent, daemon=True).start()
    everything(plan)


def run(plan: Plan, processes: int) -> None:
    """Go through all stages in some processes of one thread each, showing progress."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**34)}
    context = multiprocessing.get_context("spawn")
    workers: list[BaseProcess] = [context.Process(target=one_of_several, args=(plan,), daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    try:
        follow(plan, workers)
    finally:
        for worker in workers:
            worker.terminate()


def follow(plan: Plan, workers: list[BaseProcess]) -> None:
    """Tell how far the work is until it is done. WorkFailedError when a process ended in an error."""
    progress = Progress(plan.cost())
    before, told = 0.0, 0.0
    for name, stage in plan.stages.items():
        tasks = stage()
        progress.at_start += cost_of_done(tasks)
        while True:
            done = cost_of_done(tasks)
            whole = all(task.done for task in tasks)
            if sys.stderr.isatty() or whole or time.monotonic() - told > SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                end = "\r" if sys.stderr.isatty() and not whole else "\n"
                print(progress.line(name, before + done), end=end, file=sys.stderr, flush=True)
            if whole:
                break
            if any(worker.exitcode not in (None, 0) for worker in workers):
                raise WorkFailedError(f"a process of the stage {name} failed (above); what is done is kept")
            time.sleep(LOOKS)
        before += done


def cost_of_done(tasks: list[Task]) -> float:
    """What the tasks that are done cost together."""
    return sum(task.cost for task in tasks if task.done)
