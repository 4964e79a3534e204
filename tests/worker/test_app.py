"""A worker's life: what it opens, how it stops, and what becomes of jobs meanwhile."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from obstore.store import LocalStore
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Artifact
from contracts.schema.jobs import JobRecord, State, utc_now
from contracts.schema.tokens import ImportResult, TokenFacts
from contracts.state import dead, keys
from contracts.state.ledger import Ledger
from contracts.state.registry import Registry
from contracts.state.store import ArtifactStore, File
from contracts.state.transitions import LostJob
from tests.worker.client import Client, soon
from tests.worker.running import running
from worker.app import beats_of, ended, in_background, opened, serve
from worker.attempts import Attempt, HandedBack
from worker.intake import Intake
from worker.outcomes import Outcome
from worker.resources import Resources
from worker.routing import lanes
from worker.settings import WorkerSettings
from worker.tasks import finish, job_task, run_attempt
from worker.tokens import UnregisteredToken, discard


async def test_threads_are_as_many_as_the_setting_says(settings: WorkerSettings) -> None:
    before = torch.get_num_threads()
    try:
        async with opened(settings.model_copy(update={"threads": before + 1})):
            assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


async def test_a_worker_that_does_not_preload_loads_a_model_with_its_first_job(client: Client, settings: WorkerSettings) -> None:
    stopping = asyncio.Event()
    async with opened(settings) as resources:
        serving = asyncio.create_task(serve(resources, stopping))
        assert resources.models.loaded == []
        await client.generated()
        assert resources.models.loaded == ["tiny"]
        stopping.set()
        await serving


async def test_a_worker_that_stops_lets_its_jobs_finish_within_their_grace(client: Client, settings: WorkerSettings) -> None:
    async with running(settings.model_copy(update={"grace_seconds": 60})):
        job_id = await client.submit(client.long_generation(60))
        await client.when(job_id, lambda record: record.progress is not None)
    record = await client.ledger.get(job_id)
    assert (record.state, record.attempt) == (State.SUCCEEDED, 1)


async def test_a_taker_that_breaks_stops_the_others_and_its_error_is_raised() -> None:
    stopping, intake = asyncio.Event(), Intake([])

    async def broken() -> None:
        raise RuntimeError("no docket")

    async def taking() -> None:
        await intake.left.wait()

    takers = [asyncio.create_task(broken()), asyncio.create_task(taking())]
    with pytest.raises(RuntimeError, match="no docket"):
        await asyncio.wait_for(ended(takers, stopping, intake, set(), grace=5), 4)
    assert (stopping.is_set(), intake.state) == (True, "stopping")


async def test_a_worker_that_leaves_its_dockets_begins_no_job(client: Client, settings: WorkerSettings) -> None:
    record = await client.record(client.generation())
    async with opened(settings) as resources:
        with pytest.raises(asyncio.CancelledError):
            await job_task(resources, set(), lambda: True)(record.id)
    assert await client.ledger.get(record.id) == record


async def test_attempts_are_handed_back_after_their_grace(client: Client, settings: WorkerSettings) -> None:
    async with opened(settings) as resources:
        stopping = asyncio.Event()
        attempt = Attempt(await client.record(client.generation()), resources.ledger, resources.gate, resources.occupant)

        async def taking() -> None:
            while True:
                await asyncio.sleep(0.01)
                try:
                    attempt.check()
                except HandedBack:
                    return

        stopping.set()
        begun = asyncio.get_running_loop().time()
        await asyncio.wait_for(ended([asyncio.create_task(taking())], stopping, Intake([]), {attempt}, grace=0.3), 5)
        assert asyncio.get_running_loop().time() - begun >= 0.3


async def test_what_runs_in_the_background_ends_even_if_a_cancellation_is_swallowed() -> None:
    canceled = 0

    async def stubborn() -> None:
        nonlocal canceled
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                canceled += 1
                if canceled == 2:
                    raise

    async with asyncio.timeout(5):
        async with in_background(stubborn()):
            await asyncio.sleep(0)
    assert canceled == 2


async def test_a_heartbeat_names_the_jobs_in_the_order_in_which_they_were_claimed(settings: WorkerSettings) -> None:
    now = utc_now()
    attempts: Any = [
        SimpleNamespace(
            job_id=name, record=SimpleNamespace(kind="probe"), number=1, since=now + timedelta(seconds=age), begun=False
        )
        for name, age in (("c", 3), ("a", 1), ("b", 2))
    ]
    async with opened(settings) as resources:
        assert [job.id for job in beats_of(resources, [], Intake([]), attempts)().jobs] == ["a", "b", "c"]


def test_long_and_short_jobs_have_lanes_of_their_own(settings: WorkerSettings) -> None:
    changed = settings.model_copy(update={"long_jobs": 3, "short_jobs": 5})
    assert lanes(changed) == {keys.INTERACTIVE: 5, keys.URGENT: 1, keys.DOCKET: 3, keys.BULK: 3}
    assert [keys.docket_of(kind) for kind in ("generate", "image", "optimize")] == [keys.DOCKET] * 3


async def claimed(client: Client) -> JobRecord:
    return await client.ledger.claim((await client.record(client.generation())).id, max_attempts=9)


def outcome_of(record: JobRecord, *, canceled: bool = False) -> Outcome:
    facts = TokenFacts(
        id=keys.token_id(record.id, record.attempt), model="tiny", width=32, classes=["cat"], origin="import",
        job_id=record.id, created_at=utc_now(),
    )  # fmt: skip
    token = UnregisteredToken("cat", facts, torch.zeros(2, 32))
    return Outcome(ImportResult(model="tiny", width=32, tokens=["cat"]), (token,), canceled=canceled)


@pytest.mark.parametrize("canceled", [False, True])
async def test_an_outcome_is_recorded_with_its_tokens_whether_or_not_it_was_canceled(
    client: Client, settings: WorkerSettings, *, canceled: bool
) -> None:
    async with opened(settings) as resources:
        record = await claimed(client)
        attempt = Attempt(record, resources.ledger, resources.gate, resources.occupant)
        ended = await finish(attempt, outcome_of(record, canceled=canceled), resources)
    assert ended.state is (State.CANCELED if canceled else State.SUCCEEDED)
    assert ended.result.tokens == ["cat@1"]
    assert len(await client.stored("tokens")) == len(keys.TOKEN_FILES)
    assert (await Registry(client.redis).get("cat")).id == keys.token_id(record.id, 1)


async def test_tokens_of_a_lost_attempt_leave_no_files_and_those_of_an_unknown_end_stay(
    client: Client, settings: WorkerSettings
) -> None:
    async with opened(settings) as resources, Redis(port=1) as nowhere:
        record = await claimed(client)
        attempt = Attempt(record, resources.ledger, resources.gate, resources.occupant)
        with pytest.raises(RedisError):
            await finish(attempt, outcome_of(record), replace(resources, ledger=Ledger(nowhere)))
        assert len(await client.stored("tokens")) == len(keys.TOKEN_FILES)
        await claimed(client)
        await client.ledger.claim(record.id, max_attempts=9)
        with pytest.raises(LostJob):
            await finish(attempt, outcome_of(record), resources)
    assert await client.stored("tokens") == []
    assert await client.redis.hlen(keys.TOKENS) == 0


async def test_tokens_that_cannot_be_deleted_are_named_in_the_log(
    client: Client, settings: WorkerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = outcome_of(await claimed(client))
    await discard(BrokenStore.of(settings), outcome.tokens)
    assert outcome.tokens[0].facts.id in caplog.text


class BrokenStore(ArtifactStore):
    """A store that cannot be written to, nor cleaned."""

    @classmethod
    def of(cls, settings: WorkerSettings) -> "BrokenStore":
        place = settings.data_dir / "file"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir()
        store = cls(LocalStore(place))
        place.rmdir()
        place.write_text("no folder")
        return store


async def run_once(resources: Resources, job_id: str) -> None:
    await job_task(resources, set())(job_id)


async def test_a_store_that_fails_fails_the_job_and_does_not_hide_how_it_ended(
    client: Client, settings: WorkerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(settings) as resources:
        record = await client.record(client.generation(num_inference_steps=1))
        hasty = settings.model_copy(update={"store_patience_seconds": 0, "max_attempts": 1})
        await run_once(replace(resources, settings=hasty, store=BrokenStore.of(settings)), record.id)
    record = await client.ledger.get(record.id)
    assert (record.state, record.error.code) == (State.FAILED, Code.STORE_UNAVAILABLE)
    assert str(settings.data_dir) not in record.error.detail
    assert f"job {record.id}, attempt 1: failed" in caplog.text


async def test_a_job_whose_store_failed_is_run_again_when_its_time_has_come(
    client: Client, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "FIRST_PAUSE", timedelta(seconds=1))
    record = await client.record(client.generation(num_inference_steps=1))
    async with opened(settings) as resources:
        hasty = settings.model_copy(update={"store_patience_seconds": 0})
        await run_once(replace(resources, settings=hasty, store=BrokenStore.of(settings)), record.id)
    waiting = await client.ledger.get(record.id)
    assert (waiting.state, waiting.tries, waiting.error) == (State.QUEUED, 1, None)
    assert await client.stored("jobs") == []
    async with running(settings):
        ended = await client.ended(record.id)
    assert (ended.state, ended.attempt, ended.tries) == (State.SUCCEEDED, 2, 1)
    assert ended.started_at >= waiting.retry_at


async def test_no_token_is_registered_whose_files_could_not_be_stored(client: Client, settings: WorkerSettings) -> None:
    async with opened(settings) as resources:
        record = await claimed(client)
        attempt = Attempt(record, resources.ledger, resources.gate, resources.occupant)
        with pytest.raises(ServiceError, match="artifact store"):
            await finish(attempt, outcome_of(record), replace(resources, store=BrokenStore.of(settings)))
    assert await client.redis.hlen(keys.TOKENS) == 0
    assert (await client.ledger.get(record.id)).state is State.QUEUED


async def test_files_stay_when_redis_is_lost_at_the_end_since_nobody_knows_how_the_job_ended(
    client: Client, settings: WorkerSettings
) -> None:
    async with opened(settings) as resources, Redis(port=1) as nowhere:
        record = await claimed(client)
        attempt = Attempt(record, resources.ledger, resources.gate, resources.occupant)
        with pytest.raises(RedisError):
            await run_attempt(attempt, replace(resources, ledger=HalfLost(client.redis, nowhere)))
    assert len(await client.stored(keys.attempt_folder(record.id, 1))) == 3


class HalfLost(Ledger):
    """A ledger that can be read but no longer be written to."""

    def __init__(self, redis: Redis, nowhere: Redis) -> None:
        super().__init__(redis)
        self.nowhere = Ledger(nowhere)

    async def change(self, *given: Any, **more: Any) -> JobRecord:
        return await self.nowhere.change(*given, **more)


class Unsealed(ArtifactStore):
    """A store in which nothing is ever finished."""

    async def seal(self, *_: object) -> None:
        raise RuntimeError("no room for a manifest")


class Endless(ArtifactStore):
    """A store in which nothing is ever finished, nor fails."""

    async def seal(self, *_: object) -> None:
        await asyncio.sleep(600)


async def test_a_job_that_fails_after_it_wrote_files_leaves_none(client: Client, settings: WorkerSettings) -> None:
    async with opened(settings) as resources:
        record = await client.record(client.generation())
        await run_once(replace(resources, store=Unsealed(resources.store.store)), record.id)
    assert (await client.ledger.get(record.id)).error.code is Code.INTERNAL
    assert await client.stored("jobs") == []


async def test_a_job_that_its_docket_drops_after_it_wrote_files_leaves_none(client: Client, settings: WorkerSettings) -> None:
    async with opened(settings) as resources:
        record = await client.record(client.generation())
        task = asyncio.create_task(run_once(replace(resources, store=Endless(resources.store.store)), record.id))

        async def written() -> bool:
            return len(await client.stored("jobs")) == 2

        await soon(written)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await client.stored("jobs") == []


class Stopping(ArtifactStore):
    """A store that is told to stop the attempts as soon as it has written a file."""

    attempts: ClassVar[set[Attempt]] = set()

    async def write(self, job_id: str, attempt: int, file: File) -> Artifact:
        written = await super().write(job_id, attempt, file)
        for each in self.attempts:
            each.stop(HandedBack())
        return written


async def test_a_job_that_is_handed_back_after_it_wrote_files_leaves_none_and_is_not_taken_for_done(
    client: Client, settings: WorkerSettings
) -> None:
    async with opened(settings) as resources:
        record = await client.record(client.generation())
        store = Stopping(resources.store.store)
        with pytest.raises(asyncio.CancelledError):  # else the docket would count the job as done
            await job_task(replace(resources, store=store), store.attempts)(record.id)
    record = await client.ledger.get(record.id)
    assert (record.state, record.claimed) == (State.QUEUED, False)
    assert await client.stored("jobs") == []


async def test_a_job_that_is_lost_after_it_wrote_files_leaves_none(client: Client, settings: WorkerSettings) -> None:
    async with opened(settings) as resources:
        record = await client.record(client.generation())
        task = asyncio.create_task(run_once(resources, record.id))
        await client.when(record.id, lambda seen: seen.progress is not None)
        await client.ledger.forget(record.id)
        await task
    assert await client.stored("jobs") == []


async def test_a_model_that_is_dropped_takes_its_scenes_with_it(client: Client, settings: WorkerSettings) -> None:
    models = {"tiny": settings.models["tiny"], "other": settings.models["tiny"]}
    async with running(settings.model_copy(update={"models": models, "max_loaded_models": 1})) as resources:
        source = await client.generated()
        assert len(resources.scenes) == 1
        await client.run(client.generation().model_copy(update={"model": "other"}))
        assert resources.models.loaded == ["other"]
        assert resources.scenes.get((source.id, 1, 0)) is None
        assert len(resources.scenes) == 1


async def test_a_job_is_not_begun_more_often_than_the_setting_allows(client: Client, settings: WorkerSettings) -> None:
    async with opened(settings.model_copy(update={"max_attempts": 2})) as resources:
        record = await client.record(client.generation())
        for _ in range(2):
            await client.ledger.claim(record.id, max_attempts=2)
        await run_once(resources, record.id)
    record = await client.ledger.get(record.id)
    assert (record.state, record.error.code, record.attempt) == (State.FAILED, Code.WORKER_DIED, 2)


async def test_attempts_under_way_are_known_and_ended_ones_forgotten(client: Client, settings: WorkerSettings) -> None:
    async with opened(settings) as resources:
        attempts: set[Attempt] = set()
        record = await client.record(client.long_generation())
        task = asyncio.create_task(job_task(resources, attempts)(record.id))
        await client.when(record.id, lambda seen: seen.progress is not None)
        assert [attempt.job_id for attempt in attempts] == [record.id]
        await client.cancel(record.id)
        await task
        assert attempts == set()
