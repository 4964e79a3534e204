"""The gateway as an operator sees it: metrics with few labels, requests that jobs remember, `ovam top`."""

import json
from collections.abc import Iterator

import httpx2
import pytest
from opentelemetry import trace
from redis.asyncio import Redis
from rich.console import Console
from structlog.testing import capture_logs

from contracts.schema.jobs import seconds_of
from contracts.state import keys
from launcher import top
from launcher.top import Lane, UnreachableError, Worker, fetched, jobs_of, lasting, look_of, sized, tables
from service.tracing import TraceContext
from tests.service.in_test_worker import InTestWorker
from tests.service.test_service import metrics

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BEAT = {
    "name": "in-test",
    "device": "cuda:0",
    "jobs": [{"id": each, "kind": "generate", "attempt": 1, "since": "2026-01-01T00:00:00Z"} for each in ("a", "b")],
    "memory": {"host": {"used": 1024}, "device": {"used": 2048, "total": 4096}},
    "trace_cache_bytes": 512,
}


async def test_a_lane_has_its_depth_and_the_age_of_its_oldest_job(
    client: httpx2.AsyncClient, generated: str, redis: Redis
) -> None:
    first = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
    await client.post("/v1/generate", json={"prompt": "a car"})
    asked = (await client.post("/v1/attribute", json={"job_id": generated, "targets": [{"word": "car"}]})).json()["id"]
    found = await metrics(client)
    assert (found["ovam_queue_depth", "normal"], found["ovam_queue_depth", "interactive"]) == (2, 1)
    oldest = found["ovam_queue_oldest_seconds", "normal"]
    now = (await redis.time())[0]
    assert abs(oldest - (now - seconds_of(first))) < 5
    await client.post(f"/v1/jobs/{asked}/cancel")
    found = await metrics(client)
    assert (found["ovam_queue_depth", "interactive"], found["ovam_queue_oldest_seconds", "interactive"]) == (0, 0)


async def test_a_job_that_is_claimed_handed_back_or_deleted_counts_where_it_is(
    client: httpx2.AsyncClient, worker: InTestWorker
) -> None:
    job_id = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
    record = await worker.claim(job_id)
    assert (await metrics(client))["ovam_queue_depth", "normal"] == 0
    await worker.ledger.hand_back(job_id, record.attempt)
    found = await metrics(client)
    assert found["ovam_queue_depth", "normal"] == 1
    assert 0 <= found["ovam_queue_oldest_seconds", "normal"] < 60
    await worker.ledger.forget(job_id)
    assert (await metrics(client))["ovam_queue_depth", "normal"] == 0


async def test_failures_workers_and_kept_bytes_are_told(client: httpx2.AsyncClient, worker: InTestWorker, redis: Redis) -> None:
    job_id = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
    await worker.fail(job_id, "it fails")
    await redis.set(keys.worker("in-test"), json.dumps(BEAT), ex=60)
    await redis.set(keys.INVENTORY, json.dumps({"objects": 3, "bytes": 4096}))
    found = await metrics(client)
    assert sum(value for name, value in found.items() if name[0] == "ovam_job_failures_total") == 1
    assert found["ovam_job_failures_total", "worker-died", "optimize"] == 0  # so that the first one is an increase
    assert found["ovam_worker_info", "cuda:0", "in-test"] == 1
    assert found["ovam_worker_jobs", "in-test"] == 2
    assert found["ovam_worker_memory_bytes", "device", "in-test"] == 2048
    assert (found["ovam_store_bytes",], found["ovam_store_objects",], found["ovam_store_up",]) == (4096, 3, 1)
    assert found["ovam_redis_memory_bytes",] > 0


async def test_invented_methods_make_no_series(client: httpx2.AsyncClient) -> None:
    for name in ("BREW", "PROPFIND", "X-1"):
        await client.request(name, "/v1/jobs")
    labels = {name[1] for name in await metrics(client) if name[0] == "ovam_http_request_seconds_count"}
    assert labels == {"other"}


@pytest.mark.usefixtures("worker")
async def test_a_job_keeps_the_request_and_the_trace_that_it_comes_from(client: httpx2.AsyncClient) -> None:
    sent = {"X-Request-Id": "abc-1", "traceparent": PARENT}
    job = (await client.post("/v1/generate", json={"prompt": "a car"}, headers=sent)).json()
    assert (job["request_id"], job["traceparent"]) == ("abc-1", PARENT)
    answer = await client.post("/v1/generate", json={"prompt": "a car"})
    job = answer.json()
    assert (job["request_id"], job["traceparent"]) == (answer.headers["x-request-id"], None)


@pytest.mark.usefixtures("worker")
async def test_a_request_has_one_line_which_names_its_job_and_those_who_watch_have_none(client: httpx2.AsyncClient) -> None:
    with capture_logs() as lines:
        job_id = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
        await client.get("/healthz")
        await client.get("/v1/jobs/nothing")
    told = [(line["log_level"], line["path"], line["status"]) for line in lines if line["event"] == "request"]
    assert told == [("info", "/v1/generate", 202), ("debug", "/healthz", 200), ("info", "/v1/jobs/nothing", 404)]
    del job_id


@pytest.fixture
def text(monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    monkeypatch.setattr(top, "GLANCE_SECONDS", 0)
    with open("/dev/null", "w") as nowhere:  # noqa: PTH123  # a device, not a path
        yield Console(file=nowhere, width=120, record=True)


async def test_top_shows_what_metrics_tell(client: httpx2.AsyncClient, worker: InTestWorker, redis: Redis, text: Console) -> None:
    await redis.set(keys.worker("in-test"), json.dumps(BEAT), ex=60)
    job_id = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
    page = (await client.get("/metrics")).text
    before = fetched(answering(page))
    await worker.end(job_id)
    now = fetched(answering((await client.get("/metrics")).text))
    look = look_of(now, before, seconds=30)
    assert look.lanes == [Lane(name, 0, 0.0) for name in ("interactive", "urgent", "normal", "bulk")]
    assert look.workers == [Worker("in-test", "cuda:0", 2, {"host": 1024, "device": 2048}, 512)]
    assert [(jobs.kind, jobs.submitted, jobs.succeeded, jobs.ended_per_minute) for jobs in look.jobs] == [("generate", 1, 1, 2.0)]
    assert [jobs.ended_per_minute for jobs in jobs_of(now, None, 0)] == [None]
    text.print(tables(look))
    drawn = text.export_text()
    for word in ("Redis up", "in-test", "1.0 KiB host, 2.0 KiB device", "generate", "2.0"):
        assert word in drawn


def answering(page: str, status: int = 200) -> httpx2.Client:
    """A client of a gateway that answers every request with this page."""
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, text=page))
    return httpx2.Client(transport=transport, base_url="http://gateway")


@pytest.mark.parametrize(("page", "status"), [("", 200), ("<html>", 200), ("ovam_redis_up 1.0\n", 404)])
def test_top_says_when_what_answers_is_no_gateway(page: str, status: int) -> None:
    with pytest.raises(UnreachableError, match="http://gateway/metrics"):
        fetched(answering(page, status))


def test_top_names_the_key_that_a_gateway_asks_for() -> None:
    with pytest.raises(UnreachableError, match=r"this gateway needs an API key.*OVAM_API_KEY"):
        fetched(answering('{"detail": "this gateway needs an API key"}', 401))


def test_sizes_and_times_are_readable() -> None:
    assert [sized(count) for count in (0, 1023, 1536, 5 * 2**30, 2**60)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
        "1048576.0 TiB",
    ]
    assert lasting(75.4) == "0:01:15"


async def test_a_gateway_that_traces_keeps_its_own_span() -> None:
    own = trace.NonRecordingSpan(trace.SpanContext(trace_id=1, span_id=2, is_remote=False))
    seen = []

    async def app(*_: object) -> None:
        seen.append(trace.get_current_span())

    with trace.use_span(own):
        await TraceContext(app)({"type": "http", "headers": [(b"traceparent", PARENT.encode())]}, None, None)
    assert seen == [own]
