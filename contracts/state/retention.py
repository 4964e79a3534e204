"""What the artifact store lets go before its time: jobs used longest ago, while all files or a tenant's are too many; orphans.

How large each job's files are, and when they were last used, is in Redis; `usage.charge` enters it. Collecting a job is four
steps, each of which can be done again: claim it (nobody reads its files any more), expire its record, delete its files, forget
its size. A collection that is killed between two of them is finished by the next one.
"""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from math import inf

import obstore
from redis.asyncio import Redis

from contracts.schema.jobs import JobRecord, State, utc_now
from contracts.state import keys, usage
from contracts.state.datasets import Datasets
from contracts.state.keys import text
from contracts.state.ledger import Ledger
from contracts.state.store import ArtifactStore
from contracts.state.transitions import LostJob

IN_USE = timedelta(minutes=15)
"""What was used so recently is not collected: longer than a job takes to read what it asked for."""
CLAIM = """
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 'inf', 'inf', 'LIMIT', 0, 1)) do return id end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1)) do
  redis.call('ZADD', KEYS[1], 'inf', id)
  return id
end
return false
"""
CLAIM_ONE = """
local used = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not used or used ~= 'inf' and tonumber(used) > tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], 'inf', ARGV[1])
return 1
"""

log = logging.getLogger(__name__)


async def touch(redis: Redis, job_id: str) -> bool:
    """Say that a job's files are being used; whether they are there to be used, or being collected."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.zadd(keys.USED, {job_id: now()}, xx=True, gt=True)  # what is claimed, at infinity, stays claimed
        pipe.zscore(keys.USED, job_id)
        _, score = await pipe.execute()
    return score != inf


async def collect(redis: Redis, store: ArtifactStore, quota: int, *, in_use: timedelta = IN_USE) -> list[str]:
    """Delete the files of the jobs used longest ago until all together take `quota` bytes at most; returns their ids."""
    gone: list[str] = []
    while await unfinished(redis) or await usage.bytes_stored(redis) > quota:
        claimed = await redis.eval(CLAIM, 1, keys.USED, str(now() - in_use.total_seconds() * 1000))
        if claimed is None:
            log.warning("the store's quota of %d bytes is reached, and all that it holds is in use", quota)
            break
        await let_go(redis, store, text(claimed))
        gone.append(text(claimed))
    if gone:
        log.info("the files of %d jobs are deleted: the store's quota is %d bytes", len(gone), quota)
    return gone


async def collect_of(redis: Redis, store: ArtifactStore, tenant: str, quota: int, *, in_use: timedelta = IN_USE) -> list[str]:
    """Delete the files of a tenant's jobs used longest ago until its others keep less than `quota` bytes; returns their ids."""
    before, gone = now() - in_use.total_seconds() * 1000, list[str]()
    for job_id in await _by_use(redis, tenant, before):
        if await usage.bytes_kept(redis, tenant) < quota:
            break
        if await redis.eval(CLAIM_ONE, 1, keys.USED, job_id, str(before)):  # it may have been used, or deleted, meanwhile
            await let_go(redis, store, job_id)
            gone.append(job_id)
    if gone:
        log.info("the files of %d jobs of tenant %s are deleted: its quota is %d bytes", len(gone), tenant, quota)
    return gone


async def _by_use(redis: Redis, tenant: str, before: float) -> list[str]:
    """The ids of a tenant's jobs that keep files: those whose collection was interrupted, then by their last use."""
    ids = [text(member).partition(":")[0] for member in await redis.zrange(keys.kept(tenant), 0, -1)]
    scores = await redis.zmscore(keys.USED, ids) if ids else []
    used = [(score != inf, score, job_id) for score, job_id in zip(scores, ids, strict=True) if score is not None]
    return [job_id for whole, score, job_id in sorted(used) if not whole or score <= before]


async def unfinished(redis: Redis) -> bool:
    """Whether a collection was interrupted."""
    return bool(await redis.zcount(keys.USED, inf, inf))


async def let_go(redis: Redis, store: ArtifactStore, job_id: str) -> None:
    """Expire a job, delete its files, and count them no longer."""
    record = None
    with suppress(LostJob):  # it was deleted meanwhile
        record = await Ledger(redis).expire(job_id)
    await store.delete_folder(keys.job_folder(job_id))
    if record is not None:
        await usage.give_back(redis, record)
    await usage.forget_size(redis, job_id)


async def delete_orphans(redis: Redis, store: ArtifactStore, *, age: timedelta = timedelta(hours=1)) -> list[str]:
    """Delete what no record names: attempts that do not count, files of tokens and of data sets that are not there, probes.

    Nothing younger than `age` goes, nor anything of a job that still runs. Returns the folders.
    """
    gone = [folder async for folder in _orphans(redis, store, age)]
    for folder in gone:
        await store.delete_folder(folder)
    if gone:
        log.info("%d orphaned folders are deleted, %s first", len(gone), gone[0])
    return gone


async def _orphans(redis: Redis, store: ArtifactStore, age: timedelta) -> AsyncIterator[str]:
    ledger = Ledger(redis)
    async for job_folder in store.folders_in("jobs"):
        record = await ledger.find(job_folder.rpartition("/")[2])
        if record is not None:
            async for attempt in store.folders_in(job_folder):
                if not counts(record, attempt.rpartition("/")[2]) and await _is_older(store, attempt, age):
                    yield attempt
    registered = await _registered(redis)
    async for folder in store.folders_in("tokens"):
        token_id = folder.rpartition("/")[2]
        record = await ledger.find(token_id.partition("-")[0])
        over = record is None or record.state.final
        if token_id not in registered and over and await _is_older(store, folder, age):
            yield folder
    datasets = Datasets(redis)
    async for folder in store.folders_in("datasets"):
        if await datasets.find(folder.rpartition("/")[2]) is None and await _is_older(store, folder, age):
            yield folder
    if await _is_older(store, "probe", age):
        yield "probe"


def counts(record: JobRecord, attempt: str) -> bool:
    """Whether an attempt's files are a job's result, or may become it."""
    if not attempt.isdecimal() or int(attempt) < record.attempt:
        return False
    if int(attempt) > record.attempt:
        return True  # of a record that is newer than the one that was read
    return not record.state.final or record.result is not None or record.state is State.EXPIRED


async def _registered(redis: Redis) -> set[str]:
    """The ids of all tokens, whosever they are."""
    found = set[str]()
    async for key in redis.scan_iter(keys.token("*")):
        found |= {json.loads(facts)["id"] for facts in await redis.hvals(key)}
    return found


async def _is_older(store: ArtifactStore, folder: str, age: timedelta) -> bool:
    """Whether a folder has objects, and none of them is young."""
    newest = None
    async for chunk in obstore.list(store.store, prefix=folder):
        for item in chunk:
            newest = item["last_modified"] if newest is None else max(newest, item["last_modified"])
    return newest is not None and utc_now() - newest > age


def now() -> float:
    """Milliseconds, as scores of what was used."""
    return utc_now().timestamp() * 1000
