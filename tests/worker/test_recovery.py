"""What holds when workers die, stop, stall or lose jobs. Processes here are real."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import constants

from contracts.schema.errors import Code
from contracts.schema.jobs import Progress, State
from contracts.settings import BadSettingsError
from contracts.state import keys
from contracts.state.transitions import LostJob
from tests.worker.client import Client, soon
from tests.worker.running import running
from worker.app import opened, prepare, serve
from worker.batches import SEVERAL
from worker.settings import WorkerSettings


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
        job_id = await client.submit(client.generation(num_inference_steps=150))
        holder = await held_by(client, job_id)
        await client.when(job_id, lambda record: record.progress is not None)
        (one if holder == "one" else two).send_signal(signal.SIGKILL)
        record = await client.ended(job_id)
    assert record.state is State.SUCCEEDED
    assert record.attempt == 2
    assert {key.split("/")[2] for key in await client.stored(keys.job_folder(job_id))} == {"2"}


@pytest.mark.e2e
async def test_jobs_that_a_killed_worker_drew_together_are_each_run_again(client: Client, settings: WorkerSettings) -> None:
    with process(settings, "one", OVAM_BATCH_JOBS="2", OVAM_BATCH_WINDOW_SECONDS="10") as one:
        ids = [await client.submit(client.generation(prompt=prompt, num_inference_steps=150)) for prompt in ("a cat", "a dog")]
        for job_id in ids:
            await client.when(job_id, lambda record: record.progress is not None)
        holder = await client.redis.get(keys.holder(ids[0]))
        assert await client.redis.get(keys.on_device(holder.decode())) == SEVERAL.encode()
        one.send_signal(signal.SIGKILL)
        one.wait()
    async with running(settings.model_copy(update={"batch_jobs": 2})):
        records = [await client.ended(job_id) for job_id in ids]
    assert [(record.state, record.attempt, record.deaths) for record in records] == [(State.SUCCEEDED, 2, 0)] * 2
    for job_id in ids:
        assert {key.split("/")[2] for key in await client.stored(keys.job_folder(job_id))} == {"2"}


@pytest.mark.e2e
async def test_a_job_that_waited_for_the_device_of_a_killed_worker_is_run_by_another(
    client: Client, settings: WorkerSettings
) -> None:
    with process(settings, "one") as one:
        first = await client.submit(client.long_generation())
        await client.when(first, lambda record: record.progress is not None)
        second = await client.submit(client.generation())
        await client.when(second, lambda record: record.claimed)
        one.send_signal(signal.SIGKILL)
        one.wait()
    await client.cancel(first)  # it has begun, so that its next attempt finds the request
    assert (await client.ledger.get(second)).state is State.QUEUED
    async with running(settings):
        record = await client.ended(second)
        assert (await client.ended(first)).state is State.CANCELED
    assert (record.state, record.attempt) == (State.SUCCEEDED, 2)
    assert [event["state"] for event in await client.events(second)][-1] == "succeeded"


@pytest.mark.e2e
async def test_a_worker_told_to_stop_hands_its_job_back_and_exits_well(client: Client, settings: WorkerSettings) -> None:
    with process(settings, "one") as one:
        job_id = await client.submit(client.long_generation())
        await client.when(job_id, lambda record: record.progress is not None)
        one.send_signal(signal.SIGTERM)
        _, log = await asyncio.to_thread(one.communicate, timeout=20)
        assert one.returncode == 0, log.decode()
        assert b"handed back" in log
        assert not await alive(client, "one")
    left = [await client.redis.keys(pattern) for pattern in (keys.run("*"), keys.on_device("*"))]
    assert left == [[], []]
    assert (await client.ledger.get(job_id)).state is State.QUEUED
    async with running(settings):
        await client.when(job_id, lambda record: record.attempt == 2)
        await client.cancel(job_id)
        assert (await client.ended(job_id)).state is State.CANCELED


STARTS: list[tuple[dict[str, str], str]] = [
    ({"OVAM_DTYPE": "float8"}, "OVAM_DTYPE=float8"),
    ({"OVAM_DEVICE": "tpu"}, "OVAM_DEVICE=tpu"),
    ({"OVAM_MODELS": "{}"}, "OVAM_MODELS={}"),
    ({"OVAM_DEFAULT_MODEL": "none"}, "OVAM_DEFAULT_MODEL=none"),
    ({"OVAM_REDIS_URL": "redis://127.0.0.1:1/0"}, "OVAM_REDIS_URL: no Redis answers at redis://127.0.0.1:1/0"),
    ({"OVAM_DEVICE": "cuda:63"}, "OVAM_DEVICE=cuda:63: there is no such GPU on this machine"),
    (
        {"OVAM_MODELS": '{"sd": "no-such/model"}'},
        "OVAM_MODELS: model 'sd': 'no-such/model' is not in the local Hugging Face cache, and the hub cannot be reached",
    ),
]


@pytest.mark.parametrize(("variables", "sentence"), STARTS, ids=[next(iter(variables)) for variables, _ in STARTS])
@pytest.mark.e2e
async def test_a_setting_that_cannot_be_used_stops_the_start_with_one_line_that_names_it(
    settings: WorkerSettings, variables: dict[str, str], sentence: str
) -> None:
    with process(settings, "one", HF_HUB_OFFLINE="1", **variables) as worker:
        _, log = await asyncio.to_thread(worker.communicate, timeout=60)
    assert worker.returncode == 2, log.decode()
    assert f"the worker cannot start: {sentence}" in log.decode().splitlines()[-1]
    assert "Traceback" not in log.decode()


SOURCES: dict[str, tuple[str, list[str]]] = {
    "not cached": ("no-such/model", ["'no-such/model' is not in the local Hugging Face cache", "(offline)"]),
    "no folder": ("/nowhere", ["there is no folder '/nowhere'", "not a hub id"]),
    "no pipeline": ("{folder}", ["holds no pipeline (no model_index.json)"]),
    "half a pipeline": ("{half}", ["half"]),
}


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize("source", SOURCES)
async def test_a_default_model_that_is_not_there_stops_the_start_and_the_reason_is_given(
    settings: WorkerSettings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    source: str,
    preload: bool,
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # as the variable does before the start; no time goes to retries
    half = tmp_path / "half"
    shutil.copytree(settings.models["tiny"], half)
    (half / "unet" / "config.json").unlink()
    place, words = SOURCES[source]
    place = place.format(folder=tmp_path, half=half)
    changed = settings.model_copy(update={"models": {"it": place}, "default_model": "", "preload": preload})
    with pytest.raises(BadSettingsError, match=r"^OVAM_MODELS: model 'it': ") as caught:
        async with opened(changed) as resources:
            await (prepare(resources) if preload else serve(resources, asyncio.Event()))
    assert all(each in str(caught.value) for each in words), caught.value
    assert not any(record.exc_info for record in caplog.records)


async def test_a_device_that_is_not_there_stops_the_start(settings: WorkerSettings) -> None:
    with pytest.raises(BadSettingsError, match=r"^OVAM_DEVICE=cuda:63: there is no such GPU on this machine"):
        async with opened(settings.model_copy(update={"device": "cuda:63"})):
            pass


async def test_a_job_that_killed_too_many_workers_fails(client: Client, settings: WorkerSettings) -> None:
    record = await client.record(client.generation())
    for _ in range(settings.max_attempts):
        await client.ledger.claim(record.id, max_attempts=settings.max_attempts)
    async with running(settings):
        await client.deliver(record)
        ended = await client.ended(record.id)
    assert ended.state is State.FAILED
    assert ended.error is not None
    assert ended.error.code is Code.WORKER_DIED


@pytest.mark.e2e
async def test_a_job_that_only_waits_beside_one_that_kills_its_workers_is_run_in_the_end(
    client: Client, settings: WorkerSettings
) -> None:
    guilty = await client.submit(client.long_generation())
    for number in (1, 2):
        with process(settings, f"w{number}", OVAM_MAX_ATTEMPTS="2") as worker:
            await client.when(guilty, lambda record, number=number: record.attempt == number and record.progress is not None)
            if number == 1:
                innocent = await client.submit(client.generation())
            await client.when(innocent, lambda record, number=number: record.claimed and record.attempt == number)
            worker.kill()
    async with running(settings.model_copy(update={"max_attempts": 2})):
        assert (await client.ended(innocent)).state is State.SUCCEEDED
        record = await client.ended(guilty)
    assert record.error is not None
    assert (record.error.code, record.deaths) == (Code.WORKER_DIED, 2)


async def test_a_record_that_cannot_be_read_stops_nobody(client: Client, settings: WorkerSettings) -> None:
    broken, other = [await client.record(client.generation(num_inference_steps=2), age=60) for _ in range(2)]
    await client.redis.set(keys.job(broken.id), b'{"id": "' + broken.id.encode() + b'"}')
    await client.deliver(broken)
    async with running(settings):
        assert (await client.ended(other.id)).state is State.SUCCEEDED  # which the janitor had to find
        docket = client.dockets[keys.DOCKET]
        async with docket.redis() as redis, asyncio.timeout(20):
            while await redis.xlen(docket.stream_key):
                await asyncio.sleep(0.02)
    assert await client.ledger.find(broken.id) is None
    assert [record.id for record in (await client.ledger.newest(None, 10))[0]] == [other.id]


async def test_an_attempt_that_was_overtaken_changes_nothing_and_leaves_nothing(client: Client, settings: WorkerSettings) -> None:
    async with running(settings):
        job_id = await client.submit(client.long_generation())
        await client.when(job_id, lambda record: record.progress is not None)
        newer = await client.ledger.claim(job_id, max_attempts=9)
        assert newer.attempt == 2
        await client.generated()  # the device is free again: the first attempt has stopped
        record = await client.ledger.get(job_id)
        assert (record.state, record.claimed, record.attempt, record.progress) == (State.QUEUED, True, 2, None)
        assert await client.stored(keys.job_folder(job_id)) == []
        with pytest.raises(LostJob):
            await client.ledger.report(job_id, 1, Progress(done=1, total=2, unit="step"))


async def test_of_several_workers_only_one_commits_each_job(client: Client, settings: WorkerSettings) -> None:
    other = settings.model_copy(update={"worker_name": "other"})
    async with running(settings), running(other):
        jobs = [await client.submit(client.generation(num_inference_steps=5)) for _ in range(8)]
        records = [await client.ended(job_id) for job_id in jobs]
    assert {(record.state, record.attempt) for record in records} == {(State.SUCCEEDED, 1)}
    for record in records:
        assert sum(event["state"] == "succeeded" for event in await client.events(record.id)) == 1
        assert len(await client.stored(keys.job_folder(record.id))) == 3


async def test_a_job_longer_than_the_redelivery_time_is_run_once(client: Client, settings: WorkerSettings) -> None:
    hasty = settings.model_copy(update={"redelivery_seconds": 0.5})
    other = hasty.model_copy(update={"worker_name": "other"})
    async with running(hasty), running(other):
        job_id = await client.submit(client.long_generation())
        await asyncio.sleep(2)
        record = await client.ledger.get(job_id)
        assert (record.state, record.attempt) == (State.RUNNING, 1)
        await client.cancel(job_id)
        await client.ended(job_id)


async def test_a_job_that_no_docket_knows_is_found_and_run(client: Client, settings: WorkerSettings) -> None:
    record = await client.record(client.generation(num_inference_steps=2), age=60)
    async with running(settings):
        assert (await client.ended(record.id)).state is State.SUCCEEDED
    assert await client.redis.zcard(keys.QUEUED) == 0


async def test_artifacts_of_expired_jobs_are_deleted_and_others_stay(client: Client, settings: WorkerSettings) -> None:
    async with running(settings):
        kept = await client.generated()
        short = await client.submit(client.generation(num_inference_steps=2), life=1)
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
        one = await client.attributed(source)
    async with running(settings.model_copy(update={"worker_name": "other"})):
        other = await client.attributed(source)
    assert await client.artifact(one, "heatmap-0.npy") == await client.artifact(other, "heatmap-0.npy")


async def alive(client: Client, name: str) -> bool:
    return bool(await client.redis.exists(keys.worker(name)))


async def held_by(client: Client, job_id: str) -> str:
    """The name of the worker that runs a job, as the docket has it."""
    await client.when(job_id, lambda record: record.state is State.RUNNING)
    async with client.dockets[keys.DOCKET].redis() as redis:
        return (await redis.hget(client.dockets[keys.DOCKET].runs_key(job_id), "worker")).decode()
