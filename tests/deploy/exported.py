"""The metrics that gateway and worker really export: name, type, labels and help, read from both registries."""

from dataclasses import dataclass
from pathlib import Path

import torch
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from service.observability import Metrics as GatewayMetrics
from service.resources import opened
from service.settings import GatewaySettings
from service.shared_metrics import shared_metrics
from worker.metrics import Memory
from worker.metrics import Metrics as WorkerMetrics
from worker.scenes import Tiers

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",), "gauge": ("",)}


@dataclass(frozen=True)
class Exported:
    """A metric by the name that Prometheus' documentation would have."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def series(self) -> set[str]:
        """The names that a query may use."""
        base = self.name if self.kind in ("gauge", "histogram") else self.name.rpartition("_")[0]
        return {f"{base}{suffix}" for suffix in SUFFIXES[self.kind]}


async def exported(redis_url: str, folder: Path) -> dict[str, Exported]:
    """What both sides export, of our own and of Python's process collector."""
    async with opened(GatewaySettings(redis_url=redis_url, data_dir=folder)) as resources:
        families = await shared_metrics(resources)
    gateway, worker = GatewayMetrics().registry, WorkerMetrics().registry
    worker.register(Memory(Tiers(torch.device("cpu"), hot=0, warm=1), torch.device("cpu")))
    found = [*map(of_family, families), *of_registry(gateway), *of_registry(worker)]
    return {each.name: each for each in found}


def of_family(family: Metric) -> Exported:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return Exported(name, family.type, tuple(getattr(family, "_labelnames", ())), family.documentation)


def of_registry(registry: CollectorRegistry) -> list[Exported]:
    labels = {
        name: tuple(collector._labelnames)
        for collector, names in registry._collector_to_names.items()
        if hasattr(collector, "_labelnames")
        for name in names
    }
    found = []
    for family in registry.collect():
        each = of_family(family)
        name = f"{each.name}_info" if each.kind == "info" else each.name
        found.append(Exported(name, each.kind, labels.get(family.name, each.labels), each.meaning))
    return found
