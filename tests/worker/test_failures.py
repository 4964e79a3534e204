"""What becomes of jobs that go wrong: the record says why, and nothing is left behind."""

from typing import Any

import pytest
import torch

import ovam.errors
from contracts.schema.errors import Code, ServiceError
from contracts.schema.jobs import JobRecord, State
from contracts.schema.targets import TokenTarget, WordsTarget
from contracts.state import keys
from contracts.state.transitions import LostJob
from ovam.errors import InvalidArgumentError, OvamError, SelectionError, TraceMismatchError
from tests.worker.client import Client
from tests.worker.jobs import CAT
from worker.attempts import Attempt
from worker.failures import failure_of
from worker.resources import Resources
from worker.tasks import clean, run_attempt

pytestmark = pytest.mark.usefixtures("worker")


def why(record: JobRecord) -> Code:
    """The code of a failure, once it is sure that there is nothing else."""
    assert record.state is State.FAILED
    assert record.result is None
    assert record.error is not None
    return record.error.code


def of_model(client: Client, name: str) -> Any:
    return client.generation().model_copy(update={"model": name})


async def test_a_model_that_does_not_load_fails_its_job_by_name(client: Client) -> None:
    record = await client.run(of_model(client, "broken"))
    assert why(record) is Code.MODEL_FAILED_TO_LOAD
    assert "'broken'" in record.error.detail
    assert "there is no folder" in record.error.detail
    assert record.started_at is None
    assert await client.stored("jobs") == []


async def test_a_model_that_cannot_be_read_is_not_offered(client: Client) -> None:
    await client.generated()
    assert set(await client.redis.hkeys(keys.MODELS)) == {b"tiny"}


async def test_a_damaged_trace_is_reported_as_unreadable(client: Client, worker: Resources) -> None:
    source = await client.generated()
    worker.scenes.forget_model("tiny")
    await client.store.put(f"{keys.attempt_folder(source.id, 1)}/{keys.replay(0)}", b"not a trace")
    record = await client.attributed(source)
    assert why(record) is Code.TRACE_UNREADABLE
    assert await client.stored(keys.job_folder(record.id)) == []


@pytest.mark.parametrize("name", [keys.replay(0), "image-0.png"])
async def test_a_trace_or_an_image_that_is_gone_is_reported_as_unreadable(client: Client, worker: Resources, name: str) -> None:
    source = await client.generated()
    worker.scenes.forget_model("tiny")
    await client.store.delete(f"{keys.attempt_folder(source.id, 1)}/{name}")
    assert why(await client.attributed(source)) is Code.TRACE_UNREADABLE


async def test_a_word_that_is_not_in_its_prompt_is_named_with_it(client: Client) -> None:
    source = await client.generated()
    record = await client.attributed(source, WordsTarget(label="dog", prompt="a photograph of a cat", word="dog"))
    assert why(record) is Code.WORD_NOT_IN_PROMPT
    assert "a photograph of a cat" in record.error.detail


async def test_a_source_that_cannot_be_used_is_named(client: Client) -> None:
    source = await client.generated()
    short = await client.submit(client.generation(num_inference_steps=2), life=1)
    answered = await client.attributed(source)
    failed = await client.run(of_model(client, "broken"))
    waiting = await client.record(client.generation())
    await client.when(short, lambda record: record.state is State.EXPIRED)
    cases = {
        "0" * 26: Code.UNKNOWN_JOB,
        answered.id: Code.WRONG_JOB_KIND,
        failed.id: Code.JOB_NOT_SUCCESSFUL,
        waiting.id: Code.JOB_NOT_FINISHED,
        short: Code.JOB_EXPIRED,
    }
    for job_id, code in cases.items():
        record = await client.attributed(job_id)
        assert (why(record), record.error.field) == (code, "job_id")
    record = await client.attributed(source, image=1)
    assert (why(record), record.error.field) == (Code.IMAGE_INDEX, "image")
    await client.cancel(waiting.id)


async def test_an_unknown_token_is_named_with_its_place(client: Client) -> None:
    source = await client.generated()
    record = await client.attributed(source, CAT, TokenTarget(label="x", token="nobody"))
    assert why(record) is Code.UNKNOWN_TOKEN
    assert record.error.field == "targets.1.token"


async def test_a_canceled_generation_stops_soon_and_leaves_nothing(client: Client, worker: Resources) -> None:
    job_id = await client.submit(client.long_generation())
    await client.when(job_id, lambda record: record.progress is not None)
    await client.cancel(job_id)
    record = await client.ended(job_id)
    assert record.state is State.CANCELED
    assert record.progress.done < 800
    assert await client.stored("jobs") == []
    unet = (await worker.models.get("tiny")).pipeline.unet
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())
    assert (await client.generated()).state is State.SUCCEEDED


async def test_a_job_deleted_while_it_runs_leaves_nothing(client: Client) -> None:
    job_id = await client.submit(client.long_generation())
    await client.when(job_id, lambda record: record.progress is not None)
    await client.ledger.forget(job_id)
    await client.generated()  # the device is free again
    assert await client.ledger.find(job_id) is None
    assert await client.stored(keys.job_folder(job_id)) == []


async def test_an_attempt_that_was_lost_deletes_what_it_wrote_of_its_own(client: Client, worker: Resources) -> None:
    record = await client.ledger.claim((await client.record(client.generation())).id, max_attempts=9)
    attempt = Attempt(record, client.ledger, worker.gate, worker.occupant)
    await client.store.put(f"{keys.attempt_folder(record.id, 1)}/image-0.png", b"")
    await client.store.put(f"{keys.attempt_folder(record.id, 2)}/image-0.png", b"")
    await clean(attempt, worker)
    assert await client.stored(keys.job_folder(record.id)) == [f"{keys.attempt_folder(record.id, 2)}/image-0.png"]
    await client.ledger.claim(record.id, max_attempts=9)
    await client.store.put(f"{keys.attempt_folder(record.id, 1)}/image-0.png", b"")
    with pytest.raises(LostJob):
        await run_attempt(attempt, worker)
    assert await client.stored(keys.job_folder(record.id)) == [f"{keys.attempt_folder(record.id, 2)}/image-0.png"]
    assert (await client.ledger.get(record.id)).attempt == 2


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(each) for each in kind.__subclasses__()))


def test_every_error_of_the_library_has_a_code_that_clients_know() -> None:
    kinds = {kind for kind in subclasses(OvamError) if kind.__module__ == ovam.errors.__name__} - {OvamError}
    only_for_callers = {"label-map-unreadable"}  # `read_indexed_png` is for those who got a map from the service
    assert {kind.code for kind in kinds} - only_for_callers <= {code.value for code in Code}
    failure = failure_of(TraceMismatchError("another build"))
    assert (failure.code, failure.detail) == ("trace-mismatch", "another build")


def test_an_argument_that_the_library_refuses_is_named() -> None:
    failure = failure_of(SelectionError("heads", 9, "positions from -2 to 1"))
    assert (failure.code, failure.field, failure.value) == (Code.SELECTION_INVALID, "heads", 9)
    assert failure_of(InvalidArgumentError("steps", 9, "1 to 4")).code is Code.INVALID_ARGUMENT


def test_what_nobody_expected_keeps_its_words_to_itself() -> None:
    failure = failure_of(RuntimeError("password 1234"))
    assert failure.code is Code.INTERNAL
    assert "1234" not in failure.detail
    assert "RuntimeError" in failure.detail


def test_a_lack_of_memory_is_reported_as_such() -> None:
    host = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    for error in (host, MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        assert failure_of(error).code is Code.OUT_OF_MEMORY


def test_a_problem_with_a_code_keeps_it() -> None:
    failure = failure_of(ServiceError(Code.MASK_EMPTY, "nothing there", field="examples.0.mask"))
    assert (failure.code, failure.field) == (Code.MASK_EMPTY, "examples.0.mask")
