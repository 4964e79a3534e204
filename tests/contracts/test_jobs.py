"""What a job's record is, and what becomes of it with time."""

import time
from datetime import timedelta

import pytest

from contracts.schema.errors import Code, ServiceError
from contracts.schema.jobs import ALPHABET, JobRecord, State, new_job_id, utc_now
from contracts.state import keys
from contracts.state.requests import request_of, split
from contracts.state.results import with_result
from contracts.state.store import ArtifactStore
from service import examples

RECORDS = {name: value for name, value in vars(examples).items() if name.endswith(("QUEUED", "SUCCEEDED", "CANCELED"))}
HOUR = timedelta(hours=1)


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_new_job_waits_and_is_of_its_requests_kind(record: dict) -> None:
    job = JobRecord.model_validate(record).request
    found = JobRecord.filed(job, HOUR)
    assert (found.kind, found.kind, found.request) == (record["kind"], job.kind, job)
    assert (found.state, found.attempt, found.claimed, found.cancel_requested) == (State.QUEUED, 0, False, False)
    assert found.expires_at - found.created_at == HOUR


def test_ids_tell_their_time_and_sort_by_it() -> None:
    ids = []
    for _ in range(3):
        ids.append(new_job_id())
        time.sleep(0.002)
    assert ids == sorted(ids)
    number = 0
    for letter in ids[0]:
        number = number << 5 | ALPHABET.index(letter)
    assert abs((number >> 80) / 1000 - time.time()) < 60
    assert len({new_job_id() for _ in range(100)}) == 100
    assert {len(each) for each in ids} == {26}


def test_times_carry_the_zone_utc() -> None:
    assert utc_now().utcoffset() == timedelta()


@pytest.mark.parametrize("name", ["SUCCEEDED", "CANCELED"])
def test_a_final_job_is_expired_from_the_end_of_its_time_on_and_not_before(name: str) -> None:
    record = JobRecord.model_validate(RECORDS[name])
    assert record.seen_at(record.expires_at - timedelta(microseconds=1)) == record
    expired = record.seen_at(record.expires_at)
    assert (expired.state, expired.result, expired.error) == (State.EXPIRED, None, None)
    assert expired.request == record.request


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_a_job_that_is_not_final_does_not_expire(state: State) -> None:
    record = JobRecord.model_validate(RECORDS["QUEUED"]).changed(state=state)
    assert record.seen_at(utc_now() + 9000 * HOUR) == record


def test_a_request_of_64_kib_stays_in_its_record_and_a_larger_one_goes_to_the_store() -> None:
    record = JobRecord.model_validate(RECORDS["QUEUED"])
    missing = 2**16 - len(record.request.model_dump_json())
    fits, large = (
        record.changed(request=record.request.model_copy(update={"prompt": record.request.prompt + "x" * more}))
        for more in (missing, missing + 1)
    )
    assert split(fits) == (fits, {})
    kept, objects = split(large)
    assert kept == large.changed(request=None)
    assert objects == {keys.request(large.id): large.request.model_dump_json().encode()}


async def test_a_request_that_is_gone_from_the_store_is_an_error_of_the_store() -> None:
    record = JobRecord.model_validate(RECORDS["QUEUED"])
    store = ArtifactStore.at("memory:///")
    assert await request_of(record, store) == record.request
    with pytest.raises(ServiceError) as caught:
        await request_of(record.changed(request=None), store)
    assert caught.value.code is Code.STORE_UNAVAILABLE


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.CANCELED, State.EXPIRED])
async def test_a_result_in_the_store_is_that_of_a_job_that_succeeded(state: State, store_url: str) -> None:
    whole = JobRecord.model_validate(RECORDS["SUCCEEDED"])
    store = ArtifactStore.at(store_url)
    record = whole.changed(state=state, result=None, stored_result={"size": 9, "files": 9})
    assert await with_result(record, store) == record  # it was deleted meanwhile
    await store.put(keys.result(whole.id, whole.attempt), whole.result.model_dump_json().encode())
    assert (await with_result(record, store)).result == (whole.result if state is State.SUCCEEDED else None)
    assert (await with_result(record.changed(stored_result=None), store)).result is None
