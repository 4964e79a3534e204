"""What each tenant has used: time on devices, by day, and the bytes of files that its jobs keep.

It is counted in the transaction that ends a job, so that nothing is counted twice or not at all. Without a tenant nothing is.
"""

from collections.abc import Iterator
from datetime import timedelta

from pydantic import BaseModel
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from contracts.schema.fields import Artifact
from contracts.schema.images import ImagesResult
from contracts.schema.jobs import AnyResult, JobRecord, uploaded
from contracts.state import keys

COUNTED_FOR = timedelta(days=2)

# A job's files are counted until it expires or is deleted, whichever comes first, and given back once.
GIVE_BACK = """
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then redis.call('DECRBY', KEYS[2], ARGV[2]) end
"""

FORGET_SIZE = """
local size = redis.call('HGET', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
if size then
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('DECRBY', KEYS[3], size)
end
"""


def charge(pipe: Pipeline, record: JobRecord) -> None:
    """Queue the commands that count what a job that has just ended has used, and how large its files are."""
    if record.finished_at is None:
        return
    if size := bytes_of(record):
        pipe.zadd(keys.USED, {record.id: record.finished_at.timestamp() * 1000})
        pipe.hset(keys.SIZES, record.id, str(size))
        pipe.incrby(keys.BYTES_STORED, size)
    if not record.tenant:
        return
    if record.started_at is not None:
        spent = keys.device_seconds(record.tenant, record.finished_at.date())
        pipe.incrbyfloat(spent, (record.finished_at - record.started_at).total_seconds())
        pipe.expire(spent, COUNTED_FOR)
    if size := bytes_of(record):
        pipe.zadd(keys.kept(record.tenant), {member(record, size): record.expires_at.timestamp() * 1000})
        pipe.incrby(keys.bytes_kept(record.tenant), size)


async def give_back(redis: Redis, record: JobRecord) -> None:
    """Count the files of a job no longer: it is deleted."""
    if record.tenant and (size := bytes_of(record)):
        names = keys.kept(record.tenant), keys.bytes_kept(record.tenant)
        await redis.eval(GIVE_BACK, len(names), *names, member(record, size), str(size))
    await forget_size(redis, record.id)


async def forget_size(redis: Redis, job_id: str) -> None:
    """Count a job's files among those of the store no longer."""
    await redis.eval(FORGET_SIZE, 3, keys.USED, keys.SIZES, keys.BYTES_STORED, job_id)


async def bytes_stored(redis: Redis) -> int:
    """How many bytes the files of all jobs take."""
    return int(await redis.get(keys.BYTES_STORED) or 0)


async def bytes_kept(redis: Redis, tenant: str) -> int:
    """How many bytes a tenant's jobs and data sets keep."""
    return int(await redis.get(keys.bytes_kept(tenant)) or 0)


def member(record: JobRecord, size: int) -> str:
    """A job among those whose files are counted; the script that admits jobs reads the size of expired ones from it."""
    return f"{record.id}:{size}"


def bytes_of(record: JobRecord) -> int:
    """How large the files are that a job keeps: its artifacts, its traces and its upload."""
    if record.stored_result is not None:
        return record.stored_result.size + record.stored_result.files
    if record.result is None:
        return 0
    return files_of(record.result) + uploaded(record.request)


def files_of(result: AnyResult) -> int:
    """How large the files of a result are: artifacts and traces."""
    sizes = {artifact.name: artifact.size for artifact in artifacts_in(result)}
    traces = [image.trace_bytes for image in result.images] if isinstance(result, ImagesResult) else []
    return sum(sizes.values()) + sum(traces)


def artifacts_in(value: object) -> Iterator[Artifact]:
    """The artifacts that a result names, one perhaps several times."""
    match value:
        case Artifact():
            yield value
        case BaseModel():
            for _, part in value:
                yield from artifacts_in(part)
        case [BaseModel(), *_]:
            for part in value:
                yield from artifacts_in(part)
