"""How long work takes: the seconds that a unit of it took lately, by kind of job and model, learned from jobs that succeeded."""

import time
from datetime import timedelta

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from contracts.schema.attribute import AttributeJob
from contracts.schema.images import GenerateJob
from contracts.schema.jobs import JobRecord, Kind, State
from contracts.state import keys
from contracts.state.keys import text

REMEMBERED = timedelta(days=30)  # after the last job
WEIGHT = 0.2  # of the newest job
FRESH_SECONDS = 2.0

# A moving average, updated at once, so that no worker undoes another's.
LEARN = """
local before = redis.call('HGET', KEYS[1], ARGV[1])
local pace = tonumber(ARGV[2])
if before then pace = tonumber(before) + tonumber(ARGV[3]) * (pace - tonumber(before)) end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.9g', pace))
redis.call('EXPIRE', KEYS[1], ARGV[4])
"""


def learn(pipe: Pipeline, record: JobRecord) -> None:
    """Queue the command that learns from a job that has just ended."""
    told = record.result or record.request
    if record.state is not State.SUCCEEDED or not record.estimate or not record.estimate.work or told is None:
        return
    if isinstance(record.request, GenerateJob) and record.request.gate is not None:
        return  # it was estimated as if its gate rejected all seeds but the last
    if record.started_at and record.finished_at:
        pace = (record.finished_at - record.started_at).total_seconds() / record.estimate.work
        kind = record.request.paced_as if isinstance(record.request, AttributeJob) else record.kind
        field, life = field_of(kind, told.model), int(REMEMBERED.total_seconds())
        pipe.eval(LEARN, 1, keys.PACES, field, str(pace), str(WEIGHT), str(life))


class Paces:
    """The paces as they were a few seconds ago: they change slowly, and every submission asks for one."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._read_at = float("-inf")
        self._paces: dict[str, float] = {}

    async def of(self, kind: Kind, model: str) -> float | None:
        """Seconds that a unit of work takes; None while nobody knows."""
        if time.monotonic() - self._read_at > FRESH_SECONDS:
            found = await self.redis.hgetall(keys.PACES)
            self._paces = {text(field): float(pace) for field, pace in found.items()}
            self._read_at = time.monotonic()
        return self._paces.get(field_of(kind, model))


def field_of(kind: Kind, model: str) -> str:
    """What is learned apart."""
    return f"{kind}:{model}"
