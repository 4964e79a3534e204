"""Numbers for Prometheus."""

from prometheus_client import CollectorRegistry, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.core import Metric

from contracts.state import keys
from contracts.state.keys import text
from ovam import __version__
from service.resources import Resources
from service.shared_metrics import shared_metrics

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The numbers of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.latency = Histogram(
            "ovam_http_request_seconds",
            "Time until a request was answered in full",
            ("method", "route", "status"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        Info("ovam_build", "The version that runs", registry=self.registry).info({"version": __version__})

    async def exposed(self, resources: Resources) -> bytes:
        """Everything in Prometheus' text format; the queue's numbers are Redis' own, the same at every gateway."""
        shared = CollectorRegistry()
        shared.register(Snapshot(await shared_metrics(resources)))
        return generate_latest(shared) + generate_latest(self.registry)


class Snapshot:
    """Metrics that were just read."""

    def __init__(self, metrics: list[Metric]) -> None:
        self.metrics = metrics

    def collect(self) -> list[Metric]:
        """What the registry asks for."""
        return self.metrics


async def worker_names(resources: Resources) -> list[str]:
    """The workers that are alive."""
    prefix = keys.worker("")
    return sorted([text(key).removeprefix(prefix) async for key in resources.redis.scan_iter(f"{prefix}*", count=1000)])
