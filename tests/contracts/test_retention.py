"""Quotas let go what was used longest ago, whatever interrupts it; orphans go, and nothing that counts does."""

import json
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from contracts.schema.fields import Artifact
from contracts.schema.images import GeneratedImage, ImagesResult
from contracts.schema.jobs import JobRecord, State
from contracts.state import keys, retention, usage
from contracts.state.inventory import damages, damages_of, inventory
from contracts.state.ledger import Ledger, write
from contracts.state.registry import NewToken
from contracts.state.store import ArtifactStore, File
from ovam.core.tensor_files import checksums_of
from tests.contracts.test_ledger import JOB
from tests.contracts.test_registry import new

AT_ONCE = timedelta(0)
SIZE = 100


@pytest.fixture
async def ledger(redis_url: str) -> AsyncIterator[Ledger]:
    async with Redis.from_url(redis_url) as redis:
        yield Ledger(redis)


@pytest.fixture
def store(store_url: str) -> ArtifactStore:
    return ArtifactStore.at(store_url)


async def ended(ledger: Ledger, store: ArtifactStore, *, tenant: str = "", tokens: Any = ()) -> str:
    """A job that succeeded, with an image and a replay of 100 bytes together."""
    record = JobRecord.filed(JOB, timedelta(hours=1), tenant)
    async with ledger.redis.pipeline(transaction=True) as pipe:
        write(pipe, record)
        await pipe.execute()
    await ledger.claim(record.id, max_attempts=3)
    files = [File("image-0.png", "image/png", b"i" * 40), File(keys.replay(0), "application/octet-stream", b"r" * 60)]
    artifacts = await store.commit(record.id, 1, files)
    await ledger.succeed(record.id, 1, result_of(artifacts["image-0.png"]), tokens=tokens)
    return record.id


def result_of(image: Artifact) -> ImagesResult:
    return ImagesResult(
        kind="generate", model="tiny", height=64, width=64, num_inference_steps=1, guidance_scale=1, scheduler="DDIMScheduler",
        evaluations=1, timesteps=[1.0], blocks=[], self_attention=True, keep="replay",
        images=[GeneratedImage(index=0, seed=0, image=image, trace_bytes=60)],
    )  # fmt: skip


async def alive(ledger: Ledger, store: ArtifactStore, *jobs: str) -> list[bool]:
    found = [(await ledger.get(job)).state is State.SUCCEEDED for job in jobs]
    assert found == [bool([key async for key in store.keys_below(keys.job_folder(job))]) for job in jobs]
    return found


async def test_the_jobs_used_longest_ago_go_until_the_rest_fits(ledger: Ledger, store: ArtifactStore) -> None:
    jobs = [await ended(ledger, store) for _ in range(4)]
    assert await usage.bytes_stored(ledger.redis) == 4 * SIZE
    assert await retention.touch(ledger.redis, jobs[0])
    assert await retention.collect(ledger.redis, store, 2 * SIZE, in_use=AT_ONCE) == jobs[1:3]
    assert await alive(ledger, store, *jobs) == [True, False, False, True]
    assert await usage.bytes_stored(ledger.redis) == 2 * SIZE
    assert await retention.collect(ledger.redis, store, 2 * SIZE, in_use=AT_ONCE) == []


async def test_what_is_in_use_stays_though_the_quota_is_reached(
    ledger: Ledger, store: ArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    job = await ended(ledger, store)
    assert await retention.collect(ledger.redis, store, 0) == []
    assert await alive(ledger, store, job) == [True]
    assert "quota of 0 bytes is reached, and all that it holds is in use" in caplog.text


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


STEPS = [(Ledger, "expire"), (usage, "give_back"), (ArtifactStore, "delete_folder"), (usage, "forget_size")]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "step"), STEPS)
async def test_a_collection_that_is_killed_anywhere_is_finished_by_the_next_one(
    ledger: Ledger, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, after: Any
) -> None:
    jobs = [await ended(ledger, store, tenant="anne") for _ in range(2)]
    real = getattr(owner, step)

    async def killed(*args: Any) -> None:
        if after:
            await real(*args)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, killed)
        with pytest.raises(Killed):
            await retention.collect(ledger.redis, store, SIZE, in_use=AT_ONCE)
    if await ledger.redis.zscore(keys.USED, jobs[0]) is not None:
        assert not await retention.touch(ledger.redis, jobs[0])
    await retention.collect(ledger.redis, store, SIZE, in_use=AT_ONCE)
    assert await alive(ledger, store, *jobs) == [False, True]
    assert await usage.bytes_stored(ledger.redis) == SIZE
    assert int(await ledger.redis.get(keys.bytes_kept("anne"))) == SIZE


async def test_a_tenants_quota_lets_go_what_that_tenant_used_longest_ago_and_nothing_of_others(
    ledger: Ledger, store: ArtifactStore
) -> None:
    others = [await ended(ledger, store, tenant=tenant) for tenant in ("bert", "")]
    jobs = [await ended(ledger, store, tenant="anne") for _ in range(4)]
    assert await retention.touch(ledger.redis, jobs[0])
    assert await retention.collect_of(ledger.redis, store, "anne", 2 * SIZE) == []  # all were used just now
    await ledger.redis.zadd(keys.USED, {jobs[2]: float("inf")})  # a collection that was killed is finished first
    assert await retention.collect_of(ledger.redis, store, "anne", 2 * SIZE + 1, in_use=AT_ONCE) == [jobs[2], jobs[1]]
    assert await alive(ledger, store, *jobs, *others) == [True, False, False, True, True, True]
    assert await usage.bytes_kept(ledger.redis, "anne") == 2 * SIZE
    assert await retention.collect_of(ledger.redis, store, "anne", 2 * SIZE, in_use=AT_ONCE) == [jobs[3]]  # one more fits
    assert await usage.bytes_stored(ledger.redis) == 3 * SIZE


async def test_expiring_a_job_counts_it_no_second_time(ledger: Ledger, store: ArtifactStore) -> None:
    job = await ended(ledger, store, tenant="anne")
    counted = await ledger.redis.hgetall(keys.COUNTS)
    await ledger.expire(job)
    assert await ledger.redis.hgetall(keys.COUNTS) == counted
    assert await usage.bytes_stored(ledger.redis) == SIZE
    assert (await ledger.get(job)).state is State.EXPIRED


async def test_a_deleted_jobs_bytes_are_given_back_once(ledger: Ledger, store: ArtifactStore) -> None:
    record = await ledger.get(await ended(ledger, store))
    for _ in range(2):
        await usage.give_back(ledger.redis, record)
    assert await usage.bytes_stored(ledger.redis) == 0
    assert await ledger.redis.zcard(keys.USED) == 0


async def test_orphans_go_and_what_counts_stays(ledger: Ledger, store: ArtifactStore) -> None:
    registered = NewToken("cat", new("cat").facts.model_copy(update={"id": "x-1-0"}))
    job = await ended(ledger, store, tokens=[registered])
    running = JobRecord.filed(JOB, timedelta(hours=1))
    async with ledger.redis.pipeline(transaction=True) as pipe:
        write(pipe, running)
        await pipe.execute()
    for _ in range(2):
        await ledger.claim(running.id, max_attempts=9)
    kept = [
        f"jobs/{running.id}/2/image-0.png",
        f"jobs/{running.id}/upload",
        f"tokens/{running.id}-2-0/token.npy",
        "tokens/x-1-0/a",
    ]
    orphans = [f"jobs/{running.id}/1/image-0.png", f"jobs/{job}/0/a", f"tokens/{job}-1-0/token.npy", "tokens/y-1-0/a", "probe/a"]
    orphans.append(f"datasets/{job}/a")  # as of a data set that was never filed
    for key in (*kept, *orphans):
        await store.put(key, b"x")
    assert await retention.delete_orphans(ledger.redis, store) == []  # they are young
    gone = await retention.delete_orphans(ledger.redis, store, age=AT_ONCE)
    assert set(gone) == {key.rpartition("/")[0] for key in orphans}
    found = {key async for key in store.keys_below("")}
    assert found >= set(kept)
    assert not found & set(orphans)
    assert await alive(ledger, store, job) == [True]


async def test_a_folder_stays_while_one_of_its_files_is_young(ledger: Ledger, store: ArtifactStore, tmp_path: Path) -> None:
    for name in "ab":
        await store.put(f"tokens/y-1-0/{name}", b"x")
    os.utime(tmp_path / "store/tokens/y-1-0/a", (0, 0))
    assert await retention.delete_orphans(ledger.redis, store) == []
    os.utime(tmp_path / "store/tokens/y-1-0/b", (0, 0))
    assert await retention.delete_orphans(ledger.redis, store) == ["tokens/y-1-0"]


async def test_attempts_that_failed_leave_orphans_whose_upload_stays(ledger: Ledger, store: ArtifactStore) -> None:
    record = JobRecord.filed(JOB, timedelta(hours=1))
    async with ledger.redis.pipeline(transaction=True) as pipe:
        write(pipe, record)
        await pipe.execute()
    await ledger.claim(record.id, max_attempts=9)
    await ledger.cancel(record.id)
    for name in ("1/image-0.png", "upload"):
        await store.put(f"jobs/{record.id}/{name}", b"x")
    assert await retention.delete_orphans(ledger.redis, store, age=AT_ONCE) == [f"jobs/{record.id}/1"]


async def test_sizes_are_told_by_tier_and_job(ledger: Ledger, store: ArtifactStore) -> None:
    one, other = [await ended(ledger, store) for _ in range(2)]
    for key in (f"jobs/{one}/1/{keys.trace(0)}", f"jobs/{one}/upload", "tokens/x/token.npy", "probe/x"):
        await store.put(key, b"12345")
    found = await inventory(store)
    assert dict(found.jobs[one]) | {"results": 0} == {"replays": 60, "queries": 5, "requests": 5, "results": 0}
    assert found.jobs[other]["replays"] == 60
    assert (found.tiers["replays"], found.tiers["tokens"], found.tiers["other"]) == (120, 5, 5)


async def test_damaged_and_missing_files_are_found(ledger: Ledger, store: ArtifactStore) -> None:
    sound, damaged, short, missing = [await ended(ledger, store) for _ in range(4)]
    await store.put(f"jobs/{damaged}/1/image-0.png", b"j" * 40)
    await store.put(f"jobs/{short}/1/image-0.png", b"i" * 39)
    await store.delete(f"jobs/{missing}/1/image-0.png")
    found = {key: sentence async for key, sentence in damages(store) if key.endswith("png")}
    assert found == {
        f"jobs/{damaged}/1/image-0.png": "its SHA-256 is another",
        f"jobs/{short}/1/image-0.png": "it has 39 bytes; 40 were written",
        f"jobs/{missing}/1/image-0.png": "it is missing",
    }
    assert sound not in str(found)


@pytest.mark.parametrize("at_once", [1 << 26, 4, 1])
async def test_a_damaged_part_of_a_tensor_is_named_however_much_is_read_at_a_time(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("contracts.state.inventory.AT_ONCE", at_once)
    header = {"replay": json.dumps({"checksums": {"x": checksums_of([b"ab", b"cd", b"ef"])}})}
    tensor = {"dtype": "U8", "shape": [3, 2], "data_offsets": [0, 6]}
    head = json.dumps({"__metadata__": header, "x": tensor}).encode()
    data = len(head).to_bytes(8, "little") + head + b"abcdef"
    kinds = {keys.replay(0): "application/octet-stream", "image-0.png": "image/png"}
    written = await store.commit("job", 1, [File(name, kind, data) for name, kind in kinds.items()])
    assert [each async for each in damages(store)] == []
    for name in kinds:
        await store.put(f"jobs/job/1/{name}", data[:-1] + b"x")
    (sentence,) = await damages_of(store, f"jobs/job/1/{keys.replay(0)}", written[keys.replay(0)])
    assert sentence.startswith("tensor 'x', part 2, is damaged: checksum")
    assert await damages_of(store, "jobs/job/1/image-0.png", written["image-0.png"]) == ["its SHA-256 is another"]
