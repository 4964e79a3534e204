"""Numbers that every gateway reads from Redis, and so the same at each: the queue, jobs ever, workers, the store."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from redis.exceptions import RedisError

from contracts.schema.jobs import Kind, State, seconds_of, utc_now
from contracts.schema.workers import Heartbeat
from contracts.state import keys
from contracts.state.keys import text
from contracts.state.presence import heartbeats
from service.problems import ANSWERS
from service.resources import Resources

STATES = ("submitted", State.SUCCEEDED, State.FAILED, State.CANCELED)
FAULTS = [code for code, answer in ANSWERS.items() if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR]
"""Counted from 0 on, so that the first one ever is an increase: Prometheus sees none in a series that begins with 1."""


async def shared_metrics(resources: Resources) -> list[Metric]:
    """Everything that is read when somebody asks for metrics; of Redis and a store that fail, only that they do."""
    writable = await resources.store.takes_writes()
    store = GaugeMetricFamily("ovam_store_up", "Whether the artifact store takes writes", value=writable)
    redis = GaugeMetricFamily("ovam_redis_up", "Whether Redis answers")
    try:
        found = [
            *await queue_metrics(resources),
            *await job_metrics(resources),
            *worker_metrics(await heartbeats(resources.redis)),
            *await kept_metrics(resources),
        ]
    except RedisError:
        found = []
    redis.add_metric([], bool(found))
    return [redis, store, *found]


async def queue_metrics(resources: Resources) -> list[Metric]:
    """How many jobs wait in each lane, and for how long the oldest has."""
    depth = GaugeMetricFamily("ovam_queue_depth", "Jobs that wait for a worker", labels=("lane",))
    oldest = GaugeMetricFamily(
        "ovam_queue_oldest_seconds", "Age of the job that has waited longest; 0 without one", labels=("lane",)
    )
    async with resources.redis.pipeline(transaction=False) as pipe:
        for docket in keys.LANES:
            pipe.zcard(keys.waiting(docket))
            pipe.zrange(keys.waiting(docket), 0, 0)
        answers = await pipe.execute()
    now = utc_now().timestamp()
    for lane, waiting, first in zip(keys.LANES.values(), answers[::2], answers[1::2], strict=True):
        depth.add_metric([lane], waiting)
        oldest.add_metric([lane], max(0.0, now - seconds_of(text(first[0]))) if first else 0)
    return [depth, oldest]


async def job_metrics(resources: Resources) -> list[Metric]:
    """Jobs ever, by kind and state, and failed ones by code."""
    jobs = CounterMetricFamily("ovam_jobs", "Jobs submitted, and jobs that reached a final state", labels=("kind", "state"))
    failures = CounterMetricFamily("ovam_job_failures", "Jobs that failed", labels=("kind", "code"))
    for family, key, second in ((jobs, keys.COUNTS, STATES), (failures, keys.FAILURES, FAULTS)):
        counts = {f"{kind}:{each}": 0 for kind in get_args(Kind) for each in second}
        counts |= {text(name): int(count) for name, count in (await resources.redis.hgetall(key)).items()}
        for name, count in sorted(counts.items()):
            family.add_metric(name.split(":"), count)
    return [jobs, failures]


def worker_metrics(beats: Sequence[Heartbeat]) -> list[Metric]:
    """Which workers are alive, and what each has at hand."""
    alive = GaugeMetricFamily("ovam_workers", "Workers that are alive", value=len(beats))
    info = GaugeMetricFamily("ovam_worker_info", "A worker that is alive", labels=("worker", "device"))
    jobs = GaugeMetricFamily("ovam_worker_jobs", "Jobs that a worker has claimed", labels=("worker",))
    memory = GaugeMetricFamily("ovam_worker_memory_bytes", "Memory that a worker uses", labels=("worker", "memory"))
    cache = GaugeMetricFamily("ovam_worker_trace_cache_bytes", "Memory that a worker's traces take", labels=("worker",))
    for beat in beats:
        info.add_metric([beat.name, beat.device], 1)
        jobs.add_metric([beat.name], len(beat.jobs))
        cache.add_metric([beat.name], beat.trace_cache_bytes)
        for kind, each in beat.memory.items():
            memory.add_metric([beat.name, kind], each.used)
    return [alive, info, jobs, memory, cache]


async def kept_metrics(resources: Resources) -> list[Metric]:
    """How much Redis and the artifact store hold."""
    memory: Mapping[str, Any] = await resources.redis.info("memory")
    inventory = await resources.redis.get(keys.INVENTORY)
    used = GaugeMetricFamily("ovam_redis_memory_bytes", "Memory that Redis uses", value=memory["used_memory"])
    limit = GaugeMetricFamily(
        "ovam_redis_memory_limit_bytes", "Memory that Redis may use; 0: as much as there is", value=memory.get("maxmemory", 0)
    )
    size = GaugeMetricFamily("ovam_store_bytes", "Bytes that the artifact store holds, counted every five minutes")
    objects = GaugeMetricFamily("ovam_store_objects", "Objects that the artifact store holds, counted with its bytes")
    if inventory:
        counted = json.loads(inventory)
        size.add_metric([], counted["bytes"])
        objects.add_metric([], counted["objects"])
    return [used, limit, size, objects]
