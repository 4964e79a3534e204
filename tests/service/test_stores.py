"""A store that does not answer: its clients are answered all the same, in our own words."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx2
import pytest

from service import stores
from service.app import create_app
from service.settings import GatewaySettings
from tests.service.in_test_worker import InTestWorker
from tests.service.serving import assert_problem, client_of
from tests.service.test_image import body, picture, written


@pytest.fixture
async def silent(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The address of an S3 that takes requests and never answers."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    yield f"{host}:{port}"
    for writer in writers:
        writer.close()
    server.close()


async def test_a_store_that_hangs_keeps_nobody_waiting(
    client: httpx2.AsyncClient,
    worker: InTestWorker,
    generated: str,
    settings: GatewaySettings,
    silent: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del client, worker
    monkeypatch.setattr(stores, "ANSWERS_WITHIN", 0.5)
    monkeypatch.setattr(stores, "MOVES_WITHIN", 0.5)
    async with client_of(create_app(settings.model_copy(update={"store_url": "s3://bucket/prefix"}))) as hanging:
        begun = time.perf_counter()
        ready, *others = await asyncio.gather(
            hanging.get("/readyz"),
            hanging.get(f"/v1/jobs/{generated}/artifacts/image-0.png"),
            hanging.delete(f"/v1/jobs/{generated}"),
            hanging.post("/v1/images", json=body(written(picture()))),
        )
        assert time.perf_counter() - begun < 10
    for answer in others:
        assert_problem(answer, 503, "store-unavailable")
        assert silent not in answer.text
    assert ready.status_code == 503
    assert ready.json()["checks"]["redis"] == "ok"
    assert ready.json()["checks"]["store"] != "ok"
    assert silent not in ready.text
