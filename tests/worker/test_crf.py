"""Dense CRFs are computed elsewhere: nothing that happens to them happens to the worker."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from contracts.schema.errors import Code, ServiceError
from ovam.core.crf import CrfParameters, dense_crf
from ovam.errors import MissingPackageError
from worker.crf import NICENESS, CrfOnDevice, CrfProcesses

IMAGE = np.zeros((32, 32, 3), np.uint8)
IMAGE[8:24, 8:24] = 255
ROUGH = np.zeros((32, 32), bool)
ROUGH[10:24, 8:22] = True


@pytest.fixture
def processes() -> Iterator[CrfProcesses]:
    with CrfProcesses.open(1) as processes:
        yield processes


def test_the_answer_is_the_library_s_and_comes_from_another_process(
    processes: CrfProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = [CrfParameters(), CrfParameters(iterations=1)]
    expected = [dense_crf(IMAGE, ROUGH, each) for each in choices]
    monkeypatch.setitem(sys.modules, "denseCRF", SimpleNamespace())  # here it can no longer be computed
    assert np.array_equal(processes.fit(IMAGE, [ROUGH, ROUGH], choices), expected)


def test_on_the_device_the_answer_is_the_same() -> None:
    choices = [CrfParameters(), CrfParameters(iterations=1), CrfParameters(bilateral_weight=0.5)]
    expected = [dense_crf(IMAGE, mask, each) for mask, each in zip((ROUGH, ROUGH, ~ROUGH), choices, strict=True)]
    found = CrfOnDevice(torch.device("cpu")).fit(IMAGE, [ROUGH, ROUGH, ~ROUGH], choices)
    assert np.array_equal(found, expected)


def test_the_death_of_a_process_fails_one_call_and_no_other(processes: CrfProcesses) -> None:
    processes.fit(IMAGE, [ROUGH], [CrfParameters()])
    assert processes._pool is not None
    (process,) = processes._pool._processes.values()
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19)
    os.kill(process.pid, signal.SIGINT)  # Ctrl-C is the worker's to hear
    assert processes.fit(IMAGE, [ROUGH], [CrfParameters()])[0].any()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with pytest.raises(ServiceError) as caught:
        processes.fit(IMAGE, [ROUGH], [CrfParameters()])
    assert caught.value.code is Code.OUT_OF_MEMORY
    assert processes.fit(IMAGE, [ROUGH], [CrfParameters()])[0].any()


def test_a_package_that_is_missing_is_named_and_no_process_is_started(
    processes: CrfProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "denseCRF", None)
    with pytest.raises(MissingPackageError, match="simplecrf"):
        processes.fit(IMAGE, [ROUGH], [CrfParameters()])
    assert processes._pool is None


PARENT = """
import time
from tests.worker.test_crf import IMAGE, ROUGH, CrfParameters, CrfProcesses
if __name__ == "__main__":
    with CrfProcesses.open(1) as processes:
        processes.fit(IMAGE, [ROUGH], [CrfParameters()])
        print(*processes._pool._processes, flush=True)
        time.sleep(60)
"""


def test_a_process_ends_when_its_worker_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:  # noqa: PTH110
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}")  # noqa: PTH110
