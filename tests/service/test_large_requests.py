"""What a client sends is kept in Redis only while it is small."""

from pathlib import Path

import httpx2
import pytest
from redis.asyncio import Redis

from contracts.schema.tokens import ImportJob
from contracts.state import keys, requests
from contracts.state.ledger import Ledger
from contracts.state.requests import request_of
from contracts.state.store import ArtifactStore
from tests.service.serving import assert_problem

FILE = "QUJD" * 1000
BODY = {"file": FILE, "format": "npy", "name": "cat"}


@pytest.mark.usefixtures("worker")
async def test_a_large_request_is_in_the_store_and_its_record_is_small(
    client: httpx2.AsyncClient, redis: Redis, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "LARGE", 2000)
    answer = await client.post("/v1/tokens", json=BODY)
    record = answer.json()
    assert (answer.status_code, record["kind"], record["request"]) == (202, "import", None)
    assert await redis.strlen(keys.job(record["id"])) < 1000
    request = await request_of(await Ledger(redis).get(record["id"]), ArtifactStore.at(store_url))
    assert request == ImportJob(**BODY, model="tiny")
    small = (await client.post("/v1/generate", json={"prompt": "a car"})).json()
    assert small["request"]["prompt"] == "a car"


@pytest.mark.usefixtures("worker")
async def test_a_large_request_that_is_refused_or_deleted_leaves_nothing(
    client: httpx2.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "LARGE", 2000)
    accepted = [(await client.post("/v1/tokens", json=BODY)).json()["id"] for _ in range(3)]
    assert_problem(await client.post("/v1/tokens", json=BODY), 429, "queue-full")
    assert {path.name for path in (tmp_path / "store" / "jobs").iterdir()} == {*accepted}
    for job_id in accepted:
        await client.post(f"/v1/jobs/{job_id}/cancel")
        assert (await client.delete(f"/v1/jobs/{job_id}")).status_code == 204
    assert not (tmp_path / "store" / "jobs").exists()
