"""Dense CRFs: SimpleCRF's in processes of their own, since it holds Python's lock for as long as it computes, or on the device.

In the worker's own process that would stop heartbeats and the renewal of leases, and the job would be given to another worker
while this one still computes it.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from threading import Lock, Thread
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool

from contracts.schema.errors import Code, ServiceError
from ovam.core.crf import CrfParameters, dense_crf, simplecrf
from ovam.core.pictures import Picture
from ovam.fitting.mean_field import fitted_together

NICENESS = 5  # the worker's event loop goes first


class CrfProcesses:
    """Some processes, started when they are first needed; a call waits for one that is free."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = Lock()
        self._pool: ProcessPoolExecutor | None = None

    @classmethod
    @contextmanager
    def open(cls, count: int) -> Iterator[Self]:
        """Yield the processes; they end with the block."""
        processes = cls(count)
        try:
            yield processes
        finally:
            processes.close()

    def fit(
        self, image: Picture, masks: Sequence[Bool[np.ndarray, "height width"]], parameters: Sequence[CrfParameters]
    ) -> list[Bool[np.ndarray, "height width"]]:
        """Do as `one_by_one` does, on as many processors as there are processes; it blocks, so call it in a thread.

        ServiceError (out-of-memory) when a process dies of it.
        """
        simplecrf()  # MissingPackageError here, since it does not survive the way from another process
        pool = self._opened()
        try:
            return [*pool.map(dense_crf, [image] * len(masks), masks, parameters)]
        except BrokenProcessPool as error:
            self._forget(pool)
            detail = "the process that fitted a mask to the image's edges died; the worker may be short of memory"
            raise ServiceError(Code.OUT_OF_MEMORY, detail) from error

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
                self._pool = None

    def _opened(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self._count, mp_context=get_context("spawn"), initializer=prepared)
            return self._pool

    def _forget(self, pool: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is pool:
                self._pool = None
        pool.shutdown(wait=False)


@dataclass(frozen=True)
class CrfOnDevice:
    """The same with torch, where the model is: all masks of an image share what depends on the image alone."""

    device: torch.device

    def fit(
        self, image: Picture, masks: Sequence[Bool[np.ndarray, "height width"]], parameters: Sequence[CrfParameters]
    ) -> list[Bool[np.ndarray, "height width"]]:
        """Do as `one_by_one` does, to rounding."""
        return fitted_together(image, masks, parameters, self.device)


def prepared() -> None:
    """Be a process that gives way to the worker, leaves Ctrl-C to it, and ends when it is killed."""
    os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait for the death of the process that started this one; its pools' queues would not tell."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
