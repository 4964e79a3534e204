"""Logs as JSON lines with request ids, and numbers for Prometheus."""

import logging
import sys

import structlog
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from redis.exceptions import RedisError

from contracts.state import keys
from contracts.state.keys import text
from service.resources import Resources

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

    async def exposed(self, resources: Resources) -> bytes:
        """Everything in Prometheus' text format; the queue's numbers are Redis' own, the same at every gateway."""
        shared = CollectorRegistry()
        shared.register(Snapshot(await queue_metrics(resources)))
        return generate_latest(shared) + generate_latest(self.registry)


class Snapshot:
    """Metrics that were just read."""

    def __init__(self, metrics: list[Metric]) -> None:
        self.metrics = metrics

    def collect(self) -> list[Metric]:
        """What the registry asks for."""
        return self.metrics


async def queue_metrics(resources: Resources) -> list[Metric]:
    """Queue depth, jobs ever by kind and state, workers alive."""
    up = GaugeMetricFamily("ovam_redis_up", "Whether Redis answers")
    try:
        depth = await resources.queue.depth()
        counts = await resources.redis.hgetall(keys.COUNTS)
        workers = await worker_names(resources)
    except RedisError:
        up.add_metric([], 0)
        return [up]
    up.add_metric([], 1)
    jobs = CounterMetricFamily("ovam_jobs", "Jobs submitted, and jobs that reached a final state", labels=("kind", "state"))
    for name, count in sorted(counts.items()):
        jobs.add_metric(text(name).split(":"), int(count))
    queue = GaugeMetricFamily("ovam_queue_depth", "Jobs that wait for a worker", value=depth)
    alive = GaugeMetricFamily("ovam_workers", "Workers that are alive", value=len(workers))
    return [up, queue, alive, jobs]


async def worker_names(resources: Resources) -> list[str]:
    """The workers that are alive."""
    prefix = keys.worker("")
    return sorted([text(key).removeprefix(prefix) async for key in resources.redis.scan_iter(f"{prefix}*", count=1000)])


def configure_logging(level: str) -> None:
    """Send this process' logs to standard error, one JSON object a line."""
    shared = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    processors = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=processors))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
