"""What holds when workers die, stop, stall or lose jobs. Processes here are real."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contracts import keys
from contracts.attribution import AttributeRequest, Target
from contracts.errors import Code
from contracts.generation import GenerateRequest
from contracts.jobs import Progress, State
from contracts.ledger import LostJob
from contracts.settings import BadSettingsError
from tests.worker.client import Client, soon
from tests.worker.running import running
from worker.app import opened, prepare
from worker.settings import WorkerSettings

CAT = Target(label="cat", prompt="a photograph of a cat", word="cat")


@contextmanager
def process(settings: WorkerSettings, name: str, **changed: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as people start it; killed at the end, if it still runs."""
    environment = {
        **os.environ,
        "OVAM_REDIS_URL": settings.redis_url,
        "OVAM_STORE_URL": settings.store_url,
        "OVAM_MODELS": f'{{"tiny": "{settings.models["tiny"]}"}}',
        "OVAM_REDELIVERY_SECONDS": "1",
        "OVAM_GRACE_SECONDS": "0",
        "OVAM_THREADS": "1",
        "OVAM_WORKER_NAME": name,
        **changed,
    }
    root = Path(__file__).parents[2]
    worker = subprocess.Popen([sys.executable, "-m", "worker"], env=environment, cwd=root, stderr=subprocess.PIPE)
    try:
        yield worker
    finally:
        worker.kill()
        worker.communicate()


@pytest.mark.e2e
async def test_a_job_of_a_killed_worker_is_run_again_by_another(client: Client, settings: WorkerSettings) -> None:
    with process(settings, "one") as one, process(settings, "two") as two:
        await soon(lambda: alive(client, "one"))
        await soon(lambda: alive(client, "two"))
        job_id = await client.submit(GenerateRequest(prompt="a cat", seed=3, num_inference_steps=150))
        holder = await held_by(client, job_id)
        await client.when(job_id, lambda record: record.progress is not None)
        (one if holder == "one" else two).send_signal(signal.SIGKILL)
        record = await client.ended(job_id)
    assert record.state is State.SUCCEEDED
    assert record.attempt == 2
    assert {key.split("/")[2] for key in await client.stored(keys.job_folder(job_id))} == {"2"}


@pytest.mark.e2e
async def test_a_worker_told_to_stop_hands_its_job_back_and_exits_well(client: Client, settings: WorkerSettings) -> None:
    with process(settings, "one") as one:
        job_id = await client.submit(GenerateRequest(prompt="a cat", seed=3, num_inference_steps=900))
        await client.when(job_id, lambda record: record.progress is not None)
        one.send_signal(signal.SIGTERM)
        _, log = await asyncio.to_thread(one.communicate, timeout=20)
        assert one.returncode == 0, log.decode()
        assert b"handed back" in log
        assert not await alive(client, "one")
    assert (await client.ledger.get(job_id)).state is State.QUEUED
    async with running(settings):
        await client.when(job_id, lambda record: record.attempt == 2)
        await client.ledger.cancel(job_id)
        assert (await client.ended(job_id)).state is State.CANCELED


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OVAM_DTYPE", "float8"),
        ("OVAM_DEVICE", "tpu"),
        ("OVAM_MODELS", "{}"),
        ("OVAM_DEFAULT_MODEL", "none"),
        ("OVAM_REDIS_URL", "redis://127.0.0.1:1/0"),
    ],
)
@pytest.mark.e2e
async def test_a_setting_that_cannot_be_used_stops_the_start_and_is_named(
    settings: WorkerSettings, variable: str, value: str
) -> None:
    with process(settings, "one", **{variable: value}) as worker:
        _, log = await asyncio.to_thread(worker.communicate, timeout=60)
    assert worker.returncode == 2, log.decode()
    assert variable in log.decode().splitlines()[-1]


@pytest.mark.parametrize(
    ("field", "value"), [("device", "cuda:63"), ("models", {"none": "/nowhere"}), ("models", {"none": "no-such/model"})]
)
async def test_a_device_or_default_model_that_is_not_there_stops_the_start(
    settings: WorkerSettings, field: str, value: object
) -> None:
    changed = settings.model_copy(update={field: value, "default_model": "" if field == "models" else "tiny"})
    with pytest.raises(BadSettingsError, match=f"OVAM_{field.upper()}"):
        async with opened(changed) as resources:
            await prepare(resources)


async def test_a_job_that_killed_too_many_workers_fails(client: Client, settings: WorkerSettings) -> None:
    record = await client.record(GenerateRequest(prompt="a cat"))
    for _ in range(settings.max_attempts):
        await client.ledger.claim(record.id, max_attempts=settings.max_attempts)
    async with running(settings):
        await client.dockets[keys.DOCKET].add(keys.TASK, key=record.id)(record.id)
        ended = await client.ended(record.id)
    assert ended.state is State.FAILED
    assert ended.error is not None
    assert ended.error.code is Code.WORKER_DIED


async def test_an_attempt_that_was_overtaken_changes_nothing_and_leaves_nothing(client: Client, settings: WorkerSettings) -> None:
    async with running(settings):
        job_id = await client.submit(GenerateRequest(prompt="a cat", num_inference_steps=900))
        await client.when(job_id, lambda record: record.progress is not None)
        newer = await client.ledger.claim(job_id, max_attempts=9)
        assert newer.attempt == 2
        await client.generated()  # the device is free again: the first attempt has stopped
        record = await client.ledger.get(job_id)
        assert (record.state, record.attempt, record.progress) == (State.RUNNING, 2, None)
        assert await client.stored(keys.job_folder(job_id)) == []
        with pytest.raises(LostJob):
            await client.ledger.report(job_id, 1, Progress(done=1, total=2, unit="step"))


async def test_of_several_workers_only_one_commits_each_job(client: Client, settings: WorkerSettings) -> None:
    other = settings.model_copy(update={"worker_name": "other"})
    async with running(settings), running(other):
        jobs = [await client.submit(GenerateRequest(prompt="a cat", num_inference_steps=5)) for _ in range(8)]
        records = [await client.ended(job_id) for job_id in jobs]
    assert {(record.state, record.attempt) for record in records} == {(State.SUCCEEDED, 1)}
    for record in records:
        assert sum(event["state"] == "succeeded" for event in await client.events(record.id)) == 1
        assert len(await client.stored(keys.job_folder(record.id))) == 3


async def test_a_job_longer_than_the_redelivery_time_is_run_once(client: Client, settings: WorkerSettings) -> None:
    hasty = settings.model_copy(update={"redelivery_seconds": 0.5})
    other = hasty.model_copy(update={"worker_name": "other"})
    async with running(hasty), running(other):
        job_id = await client.submit(GenerateRequest(prompt="a cat", num_inference_steps=900))
        await asyncio.sleep(2)
        record = await client.ledger.get(job_id)
        assert (record.state, record.attempt) == (State.RUNNING, 1)
        await client.ledger.cancel(job_id)
        await client.ended(job_id)


async def test_a_job_that_no_docket_knows_is_found_and_run(client: Client, settings: WorkerSettings) -> None:
    record = await client.record(GenerateRequest(prompt="a cat", num_inference_steps=2), age=60)
    async with running(settings):
        assert (await client.ended(record.id)).state is State.SUCCEEDED
    assert await client.redis.zcard(keys.QUEUED) == 0


async def test_artifacts_of_expired_jobs_are_swept_and_others_stay(client: Client, settings: WorkerSettings) -> None:
    async with running(settings):
        kept = await client.generated()
        short = await client.submit(GenerateRequest(prompt="a cat", num_inference_steps=2), life=1)
        assert (await client.when(short, lambda record: record.state is State.SUCCEEDED)).result is not None

        async def gone() -> bool:
            return await client.stored(keys.job_folder(short)) == []

        await soon(gone)
        assert len(await client.stored(keys.job_folder(kept.id))) == 3
        assert (await client.ledger.get(short)).state is State.EXPIRED


async def test_a_worker_says_that_it_lives_and_what_it_serves(client: Client, settings: WorkerSettings) -> None:
    async with running(settings):
        await soon(lambda: alive(client, "tester"))
        assert await client.redis.hkeys(keys.MODELS) == [b"tiny"]
        assert await client.redis.hkeys(keys.TOKENIZERS) == [b"tiny"]


async def test_the_same_answer_comes_from_a_worker_that_did_not_draw_the_image(client: Client, settings: WorkerSettings) -> None:
    async with running(settings):
        source = await client.generated()
        one = await client.run(AttributeRequest(job_id=source.id, targets=[CAT]))
    async with running(settings.model_copy(update={"worker_name": "other"})):
        other = await client.run(AttributeRequest(job_id=source.id, targets=[CAT]))
    assert await client.artifact(one, "heatmap-0.npy") == await client.artifact(other, "heatmap-0.npy")


async def alive(client: Client, name: str) -> bool:
    return bool(await client.redis.exists(keys.worker(name)))


async def held_by(client: Client, job_id: str) -> str:
    """The name of the worker that runs a job, as the docket has it."""
    await client.when(job_id, lambda record: record.state is State.RUNNING)
    async with client.dockets[keys.DOCKET].redis() as redis:
        return (await redis.hget(client.dockets[keys.DOCKET].runs_key(job_id), "worker")).decode()
