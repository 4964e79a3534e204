"""A worker's own numbers for Prometheus: where the time of its jobs goes, its caches and its memory."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from contracts.schema import workers
from worker.scenes import Tiers
from worker.timing import PHASES, Timing

SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LONG = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


class Metrics:
    """The numbers of one worker; labels have few values, whatever clients request."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        kind = ("kind",)
        self.wait = Histogram(
            "ovam_job_wait_seconds",
            "Time from the filing of a job to its turn on the device",
            kind,
            buckets=LONG,
            registry=registry,
        )
        self.phases = {
            "load": Histogram(
                "ovam_job_load_seconds", "Time that a job spent loading its model", kind, buckets=SHORT, registry=registry
            ),
            "device": Histogram(
                "ovam_job_device_seconds", "Time that a job had the device", kind, buckets=SHORT, registry=registry
            ),
            "store": Histogram(
                "ovam_job_store_seconds", "Time that a job read or wrote the store", kind, buckets=SHORT, registry=registry
            ),
        }
        self.store_bytes = Counter(
            "ovam_store_transferred_bytes", "Bytes that jobs read from the store or wrote", ("operation",), registry=registry
        )
        self.store_errors = Counter(
            "ovam_store_errors", "Operations of jobs that the store did not carry out", ("operation",), registry=registry
        )

    def ended(self, kind: str, timing: Timing) -> None:
        """Count an attempt that has ended, however it did. What never had its turn has no time but in the store."""
        if timing.waited is not None:
            self.wait.labels(kind).observe(timing.waited)
        for phase in PHASES:
            if timing.watches[phase].seconds or timing.waited is not None:
                self.phases[phase].labels(kind).observe(timing.watches[phase].seconds)


class Memory:
    """What a worker holds in memory, read whenever it is asked for."""

    def __init__(self, scenes: Tiers, device: torch.device) -> None:
        self._scenes = scenes
        self._device = device

    def used(self) -> dict[Literal["host", "device"], workers.Memory]:
        """That of the host, and that of the device if it has one of its own."""
        used: dict[Literal["host", "device"], workers.Memory] = {"host": workers.Memory(used=resident(), total=installed())}
        if self._device.type == "cuda":
            total = torch.cuda.get_device_properties(self._device).total_memory
            used["device"] = workers.Memory(used=torch.cuda.memory_reserved(self._device), total=total)
        return used

    def describe(self) -> list[Metric]:
        """Let a registry check names without reading anything."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What the registry asks for."""
        lookups = CounterMetricFamily("ovam_trace_cache_lookups", "Traces that jobs looked for in memory", labels=("result",))
        lookups.add_metric(["hit"], self._scenes.hits)
        lookups.add_metric(["miss"], self._scenes.misses)
        yield lookups
        yield GaugeMetricFamily("ovam_trace_cache_bytes", "Memory that traces take", value=self._scenes.nbytes)
        yield GaugeMetricFamily("ovam_trace_cache_limit_bytes", "Memory that traces may take", value=self._scenes.budget)
        memory = GaugeMetricFamily("ovam_device_memory_bytes", "The memory of a GPU, and what of it is in use", labels=("part",))
        if self._device.type == "cuda":
            memory.add_metric(["allocated"], torch.cuda.memory_allocated(self._device))
            memory.add_metric(["reserved"], torch.cuda.memory_reserved(self._device))
            memory.add_metric(["total"], torch.cuda.get_device_properties(self._device).total_memory)
        yield memory


def resident() -> int:
    """Bytes of main memory that this process uses; 0 where there is no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def installed() -> int | None:
    """Bytes of main memory that the machine has; None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
