"""Data sets in Redis: one driver at a time, each entry counted once, nobody else's, and nothing left of what is forgotten."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from contracts.schema.access import Limits
from contracts.schema.datasets import DatasetRecord, DatasetState, Entry
from contracts.schema.errors import Code, Failure, ServiceError
from contracts.schema.jobs import new_job_id, utc_now
from contracts.state import keys
from contracts.state.datasets import ACTIVE, LEASE, REPLAYED_FOR, SEGMENT, Datasets, LostDataset, summary_of
from service import examples


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


def record(tenant: str = "anne") -> DatasetRecord:
    return DatasetRecord.model_validate(examples.DATASET | {"id": new_job_id(), "tenant": tenant})


def entry(number: int, state: str = "accepted", **known: object) -> Entry:
    return Entry.model_validate({"number": number, "custom_id": "a", "prompt": "a", "seed": 1, "state": state} | known)


async def lease(datasets: Datasets, filed: DatasetRecord) -> int:
    taken = await datasets.take()
    assert taken is not None
    assert taken[0] == filed.id
    return taken[1]


async def test_a_data_set_is_its_tenants_and_an_idempotency_key_finds_it(redis: Redis) -> None:
    mine, filed = Datasets(redis, "anne"), record()
    limits = Limits(queued=3)
    assert await mine.file(filed, limits, ("key", "print")) == filed.id
    assert await mine.file(record(), limits, ("key", "print")) == filed.id
    with pytest.raises(ServiceError, match=f"was used for another request .data set {filed.id}"):
        await mine.file(record(), limits, ("key", "another"))
    assert 0 < await redis.ttl(keys.dataset_once("key", "anne")) <= REPLAYED_FOR.total_seconds()
    assert await mine.find(filed.id) == await Datasets(redis).find(filed.id) == filed
    assert await Datasets(redis, "bert").find(filed.id) is None
    assert await Datasets(redis, "bert").filed("key", "print") is None
    assert await mine.limits(filed.id) == limits
    later = record()
    await mine.file(later, limits)
    assert [each.id for each in await mine.newest(None, 9)] == [later.id, filed.id]
    assert [each.id for each in await mine.newest(later.id, 9)] == [filed.id]
    assert await Datasets(redis, "bert").newest(None, 9) == []
    await mine.forget(later)
    await mine.forget(filed)
    assert await mine.filed("key", "print") is None
    assert {key async for key in redis.scan_iter("ovam:*")} <= {
        keys.dataset_once("key", "anne").encode(),
        b"ovam:bytes-kept:anne",
    }


async def test_who_lost_the_lease_changes_nothing(redis: Redis) -> None:
    datasets, filed = Datasets(redis), record()
    await datasets.file(filed, Limits())
    first = await lease(datasets, filed)
    assert await datasets.take() is None
    due = await redis.zscore(keys.DATASETS_DUE, filed.id)
    assert due == pytest.approx((utc_now() + LEASE).timestamp() * 1000, abs=3000)
    await datasets.release(filed.id)
    second = await lease(datasets, filed)
    assert await datasets.renew(filed.id, second) is DatasetState.QUEUED
    for change in (
        datasets.renew(filed.id, first),
        datasets.enter(filed, first, entry(0)),
        datasets.seal(filed.id, first, 0, [0]),
        datasets.move(filed.id, DatasetState.FAILED, ACTIVE, {}, fence=first),
    ):
        with pytest.raises(LostDataset):
            await change
    assert await datasets.find(filed.id) == filed
    assert await datasets.move(filed.id, DatasetState.RUNNING, ACTIVE, {}, fence=second, due=LEASE) is DatasetState.QUEUED
    assert await datasets.move("none", DatasetState.RUNNING, ACTIVE, {}) is None


async def test_entries_count_once_and_leave_redis_with_their_segment(redis: Redis) -> None:
    datasets, filed = Datasets(redis), record()
    await datasets.file(filed, Limits())
    fence = await lease(datasets, filed)
    for each in (entry(0, kept_bytes=7), entry(0, kept_bytes=9), entry(1, "rejected", reason="area"), entry(2, "failed")):
        await datasets.enter(filed, fence, each)
    found = await datasets.get(filed.id)
    assert found.counts.model_dump() == {"entries": 200, "done": 3, "accepted": 1, "failed": 1, "rejected": {"area": 1}}
    assert (found.kept_bytes, int(await redis.get(keys.bytes_kept("anne")))) == (7, 7)
    sealed, there = await datasets.open_entries(filed.id)
    assert (sealed, {number: Entry.model_validate_json(line).state for number, line in there.items()}) == (
        0, {0: "accepted", 1: "rejected", 2: "failed"},
    )  # fmt: skip
    await datasets.seal(filed.id, fence, 0, [0, 1, 2])
    await datasets.enter(filed, fence, entry(SEGMENT - 1))  # it is in the store already
    assert await datasets.open_entries(filed.id) == (1, {})
    assert (await datasets.get(filed.id)).counts.done == 3
    await datasets.forget(filed)
    assert int(await redis.get(keys.bytes_kept("anne"))) == 0


async def test_a_record_says_how_far_it_is_and_its_events_do(redis: Redis) -> None:
    datasets, filed = Datasets(redis), record()
    await datasets.file(filed, Limits())
    now, why = utc_now(), Failure(code=Code.QUEUE_FULL, detail="full")
    await datasets.move(filed.id, DatasetState.RUNNING, ACTIVE, {"started_at": now.isoformat()})
    await datasets.note(filed.id, waits=why.model_dump_json(), seconds="12.5")
    found = await datasets.get(filed.id)
    assert (found.state, found.started_at, found.finished_at, found.waits) == (DatasetState.RUNNING, now, None, why)
    assert found.estimate.seconds == 12.5
    assert summary_of(found).model_dump() == {name: value for name, value in found.model_dump().items() if name != "request"}
    await datasets.note("gone", waits="")
    assert not await redis.exists(keys.dataset("gone"))
    canceled = await datasets.cancel(await datasets.pause(found))
    assert (canceled.state, canceled.finished_at is None) == (DatasetState.CANCELED, False)
    for refused in (datasets.pause(canceled), datasets.resume(canceled), datasets.cancel(canceled)):
        with pytest.raises(ServiceError, match="is already canceled"):
            await refused
    states = [text for _, event in await redis.xrange(keys.events(filed.id)) for text in [event[b"data"].decode()]]
    assert [state for text in states for state in DatasetState if f'"state":"{state}"' in text] == [
        "queued", "running", "paused", "canceled",
    ]  # fmt: skip


async def test_a_failed_one_can_be_resumed(redis: Redis) -> None:
    datasets, filed = Datasets(redis), record()
    await datasets.file(filed, Limits())
    error = Failure(code=Code.INTERNAL, detail="it")
    await datasets.move(
        filed.id, DatasetState.FAILED, ACTIVE, {"error": error.model_dump_json(), "finished_at": utc_now().isoformat()}
    )
    failed = await datasets.get(filed.id)
    assert (failed.error, await datasets.take()) == (error, None)
    resumed = await datasets.resume(failed)
    assert (resumed.state, resumed.error, resumed.finished_at) == (DatasetState.QUEUED, None, None)
    assert await datasets.resume(resumed) == resumed
    assert await redis.xlen(keys.events(filed.id)) == 1  # who follows it reads no end
    assert await lease(datasets, filed) == 1
