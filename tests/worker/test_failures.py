"""What becomes of jobs that go wrong: the record says why, and nothing is left behind."""

import pytest
import torch

from contracts import keys
from contracts.attribution import AttributeRequest, Target
from contracts.errors import Code, ServiceError
from contracts.generation import GenerateRequest
from contracts.jobs import JobRecord, State
from ovam.errors import OvamError
from tests.worker.client import Client
from worker.failures import CODES, failure_of

pytestmark = pytest.mark.usefixtures("worker")

CAT = Target(label="cat", prompt="a photograph of a cat", word="cat")


def why(record: JobRecord) -> Code:
    """The code of a failure, once it is sure that there is nothing else."""
    assert record.state is State.FAILED
    assert record.result is None
    assert record.error is not None
    return record.error.code


async def test_a_model_that_does_not_load_fails_its_job_by_name(client: Client) -> None:
    record = await client.run(GenerateRequest(prompt="a cat", model="broken"))
    assert why(record) is Code.MODEL_FAILED_TO_LOAD
    assert "broken" in record.error.detail
    assert await client.stored("jobs") == []


async def test_a_model_that_cannot_be_read_is_not_offered(client: Client) -> None:
    await client.generated()
    assert set(await client.redis.hkeys(keys.MODELS)) == {b"tiny"}


async def test_a_model_nobody_configured_is_unknown(client: Client) -> None:
    assert why(await client.run(GenerateRequest(prompt="a cat", model="sdxl"))) is Code.UNKNOWN_MODEL


async def test_a_prompt_over_the_encoders_limit_is_refused_not_cut(client: Client) -> None:
    assert why(await client.run(GenerateRequest(prompt="cat " * 90))) is Code.PROMPT_TOO_LONG


async def test_a_size_the_model_cannot_draw_is_refused(client: Client) -> None:
    assert why(await client.run(GenerateRequest(prompt="a cat", height=72))) is Code.SIZE_NOT_DIVISIBLE


async def test_a_damaged_trace_is_said_to_be_unreadable(client: Client, worker: object) -> None:
    source = await client.generated()
    worker.scenes.forget_model("tiny")
    await client.store.put(f"{keys.attempt_folder(source.id, 1)}/{keys.trace(0)}", b"not a trace")
    record = await client.run(AttributeRequest(job_id=source.id, targets=[CAT]))
    assert why(record) is Code.TRACE_UNREADABLE
    assert await client.stored(keys.job_folder(record.id)) == []


async def test_a_missing_trace_is_said_to_be_unreadable(client: Client, worker: object) -> None:
    source = await client.generated()
    worker.scenes.forget_model("tiny")
    await client.store.delete_folder(keys.job_folder(source.id))
    assert why(await client.run(AttributeRequest(job_id=source.id, targets=[CAT]))) is Code.TRACE_UNREADABLE


async def test_a_word_that_is_not_in_its_prompt_is_named_with_it(client: Client) -> None:
    source = await client.generated()
    target = Target(label="dog", prompt="a photograph of a cat", word="dog")
    record = await client.run(AttributeRequest(job_id=source.id, targets=[target]))
    assert why(record) is Code.WORD_NOT_IN_PROMPT
    assert "a photograph of a cat" in record.error.detail


async def test_a_source_that_cannot_be_used_is_named(client: Client) -> None:
    source = await client.generated()
    short = await client.submit(GenerateRequest(prompt="a cat", seed=1, num_inference_steps=2), life=1)
    answered = await client.run(AttributeRequest(job_id=source.id, targets=[CAT]))
    failed = await client.run(GenerateRequest(prompt="a cat", model="broken"))
    waiting = await client.record(GenerateRequest(prompt="a cat"))
    await client.when(short, lambda record: record.state is State.EXPIRED)
    cases = {
        "0" * 26: Code.UNKNOWN_JOB,
        answered.id: Code.WRONG_JOB_KIND,
        failed.id: Code.JOB_NOT_SUCCESSFUL,
        waiting.id: Code.JOB_NOT_FINISHED,
        short: Code.JOB_EXPIRED,
    }
    for job_id, code in cases.items():
        assert why(await client.run(AttributeRequest(job_id=job_id, targets=[CAT]))) is code
    assert why(await client.run(AttributeRequest(job_id=source.id, image=1, targets=[CAT]))) is Code.IMAGE_INDEX
    await client.ledger.cancel(waiting.id)


async def test_an_unknown_token_is_named_with_its_place(client: Client) -> None:
    source = await client.generated()
    targets = [CAT, Target(label="x", token="nobody")]
    record = await client.run(AttributeRequest(job_id=source.id, targets=targets))
    assert why(record) is Code.UNKNOWN_TOKEN
    assert record.error.field == "targets.1.token"


async def test_a_canceled_generation_stops_soon_and_leaves_nothing(client: Client, worker: object) -> None:
    job_id = await client.submit(GenerateRequest(prompt="a tree", num_inference_steps=900))
    await client.when(job_id, lambda record: record.progress is not None)
    await client.ledger.cancel(job_id)
    record = await client.ended(job_id)
    assert record.state is State.CANCELED
    assert record.progress.done < 800
    assert await client.stored("jobs") == []
    unet = (await worker.models.get("tiny")).pipeline.unet
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())
    assert (await client.generated()).state is State.SUCCEEDED


async def test_a_job_canceled_while_another_has_the_device_does_not_wait_for_it(client: Client) -> None:
    long = await client.submit(GenerateRequest(prompt="a tree", num_inference_steps=900))
    await client.when(long, lambda record: record.progress is not None)
    waiting = await client.submit(GenerateRequest(prompt="a tree", num_inference_steps=900))
    await client.when(waiting, lambda record: record.state is State.RUNNING)
    await client.ledger.cancel(waiting)
    assert (await client.ended(waiting)).state is State.CANCELED
    assert (await client.ledger.get(long)).state is State.RUNNING
    await client.ledger.cancel(long)
    await client.ended(long)


async def test_a_job_deleted_while_it_runs_leaves_nothing(client: Client) -> None:
    job_id = await client.submit(GenerateRequest(prompt="a tree", num_inference_steps=900))
    await client.when(job_id, lambda record: record.progress is not None)
    await client.ledger.forget(job_id)
    await client.generated()  # the device is free again
    assert await client.ledger.find(job_id) is None
    assert await client.stored(keys.job_folder(job_id)) == []


def test_every_error_of_the_library_has_a_code() -> None:
    kinds = set(OvamError.__subclasses__())
    assert kinds - set(CODES) <= {kind for kind in kinds if kind.__name__ == "CaptureError"}


def test_what_nobody_expected_keeps_its_words_to_itself() -> None:
    failure = failure_of(RuntimeError("password 1234"))
    assert failure.code is Code.INTERNAL
    assert "1234" not in failure.detail


def test_a_lack_of_memory_is_told_as_such() -> None:
    host = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    for error in (host, MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        assert failure_of(error).code is Code.OUT_OF_MEMORY


def test_a_problem_with_a_code_keeps_it() -> None:
    failure = failure_of(ServiceError(Code.MASK_EMPTY, "nothing there", field="examples.0.mask"))
    assert (failure.code, failure.field) == (Code.MASK_EMPTY, "examples.0.mask")
