"""Large results are kept in the store, and small ones in the record."""

import pytest

from contracts.schema.errors import Code
from contracts.state import keys, results
from contracts.state.results import with_result
from contracts.state.usage import bytes_of
from tests.worker.client import Client
from tests.worker.jobs import CAT, DOG


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large is small."""
    monkeypatch.setattr(results, "LARGE", 1000)


@pytest.mark.usefixtures("worker", "small")
async def test_a_large_result_is_in_the_store_and_comes_with_the_record(client: Client) -> None:
    source = await client.generated()
    record = await client.attributed(source, CAT, DOG, instances={})
    assert (record.state, record.result) == ("succeeded", None)
    stored = await client.store.get(keys.result(record.id, record.attempt))
    assert stored is not None
    assert len(stored) == record.stored_result.size > 1000
    whole = await with_result(record, client.store)
    assert [segment.label for segment in whole.result.segments] == ["cat", "dog"]
    assert len(await client.redis.get(keys.job(record.id))) < 4000
    files = await client.store.manifest(record.id, record.attempt)
    assert bytes_of(record.changed(tenant="a")) == len(stored) + sum(file.size for file in files)


@pytest.mark.usefixtures("worker")
async def test_a_small_result_is_in_the_record(client: Client) -> None:
    record = await client.attributed(await client.generated(), CAT)
    assert record.result is not None
    assert record.stored_result is None
    assert await client.store.get(keys.result(record.id, record.attempt)) is None


@pytest.mark.usefixtures("worker", "small")
async def test_a_result_that_is_far_too_large_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST", 1500)
    record = await client.attributed(await client.generated(), CAT, DOG, instances={})
    assert (record.state, record.error.code, record.error.field) == ("failed", Code.RESULT_TOO_LARGE, "targets")
    assert await client.stored(keys.job_folder(record.id)) == []
