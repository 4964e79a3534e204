import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from redis import Redis
from starlette.types import Message, Receive, Scope, Send

from contracts.schema.errors import Code, FieldError, ServiceError
from service import resources
from service.app import create_app
from service.catalog import Catalog
from service.invalid import inside, shown
from service.middleware import Observed
from service.observability import Metrics
from service.problems import ANSWERS, problem
from service.settings import GatewaySettings
from tests.service.in_test_worker import InTestWorker
from tests.service.serving import assert_problem, client_of


def test_every_code_has_an_answer() -> None:
    assert set(ANSWERS) == set(Code)


@pytest.mark.parametrize("code", list(Code))
async def test_every_code_is_explained_where_its_type_leads(client: httpx2.AsyncClient, code: Code) -> None:
    found = problem(code, "x")
    answer = await client.get(found.type)
    assert answer.json() == {"code": code, "status": found.status, "title": found.title}


async def test_a_path_that_leads_nowhere_is_a_problem(client: httpx2.AsyncClient) -> None:
    assert_problem(await client.get("/v2"), 404, "not-found")
    assert_problem(await client.get("/v1/models/"), 404, "not-found")


@pytest.mark.parametrize("path", ["/v2", "/web/nothing.js", "/docs/files/nothing.js"])
async def test_a_problem_s_type_leads_to_what_it_means_wherever_it_happened(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.get((await client.get(path)).json()["type"])
    assert (answer.status_code, answer.json()["code"]) == (200, "not-found")


async def test_a_method_that_is_not_possible_is_a_problem_that_says_which_are(client: httpx2.AsyncClient) -> None:
    answer = await client.put("/v1/generate")
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "OPTIONS, POST"


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/generate", "OPTIONS, POST"),
        ("/v1/jobs", "GET, HEAD, OPTIONS"),
        (f"/v1/jobs/{'0' * 26}", "DELETE, GET, HEAD, OPTIONS"),
        ("/v1/tokens/cat", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
        ("/web/index.html", "GET, HEAD, OPTIONS"),
        ("/web/v1/generate", "GET, HEAD, OPTIONS"),
    ],
)
async def test_options_says_which_methods_an_address_has(client: httpx2.AsyncClient, path: str, methods: str) -> None:
    answer = await client.options(path)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (200, methods, b"")
    assert_problem(await client.options("/v2"), 404, "not-found")


async def test_without_redis_everything_but_health_is_unavailable(settings: GatewaySettings) -> None:
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    async with client_of(create_app(away)) as client:
        for path in ("/v1/jobs", "/v1/models", "/v1/tokens", f"/v1/jobs/{'0' * 26}"):
            answer = await client.get(path)
            assert_problem(answer, 503, "redis-unavailable")
            assert answer.headers["retry-after"]
        assert_problem(await client.post("/v1/generate", json={"prompt": "a car"}), 503, "redis-unavailable")
        assert (await client.get("/healthz")).status_code == 200
        assert "ovam_redis_up 0.0" in (await client.get("/metrics")).text
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
        assert "cannot be reached" in ready.json()["checks"]["redis"]


@pytest.mark.usefixtures("settings")
async def test_without_the_store_artifacts_are_unavailable(client: httpx2.AsyncClient, generated: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.rename(tmp_path / "moved")
    store.write_text("no folder")
    answer = await client.get(f"/v1/jobs/{generated}/artifacts/image-0.png")
    assert_problem(answer, 503, "store-unavailable")
    assert answer.headers["retry-after"]
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["redis"]) == (503, "ok")
    assert "store" in ready.json()["checks"]["store"]


async def test_a_job_whose_files_cannot_be_deleted_stays(client: httpx2.AsyncClient, generated: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.rename(tmp_path / "moved")
    store.write_text("no folder")
    assert_problem(await client.delete(f"/v1/jobs/{generated}"), 503, "store-unavailable")
    assert (await client.get(f"/v1/jobs/{generated}")).status_code == 200


@pytest.mark.usefixtures("worker")
async def test_what_nobody_expected_is_a_problem_too(settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: Catalog) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Catalog, "models", broken)
    async with client_of(create_app(settings)) as client:
        answer = await client.get("/v1/models", headers={"X-Request-ID": "mine"})
        found = assert_problem(answer, 500, "internal-error")
        assert "mine" in found["detail"]
        assert answer.headers["x-request-id"] == "mine"
        counted = 'ovam_http_request_seconds_count{method="GET",route="/v1/models",status="500"} 1.0'
        assert counted in (await client.get("/metrics")).text
        assert "ZeroDivision" not in answer.text


async def test_an_app_that_breaks_in_the_middle_of_its_answer_does_not_begin_another() -> None:
    sent = []

    async def half(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    async def nothing() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message["type"])

    with pytest.raises(ZeroDivisionError):
        await Observed(half, Metrics())({"type": "http", "method": "GET", "path": "/", "headers": []}, nothing, send)
    assert sent == ["http.response.start"]


LOGGING = """
import asyncio, logging
from service.app import create_app
from contracts.logs import configure_logging
from service.settings import GatewaySettings
from tests.service.serving import client_of

async def broken():
    raise ZeroDivisionError("by nought")

async def main():
    app = create_app(GatewaySettings(redis_url="redis://127.0.0.1:1/0"))
    app.add_api_route("/broken", broken)
    async with client_of(app) as client:
        await client.get("/broken", headers={"X-Request-ID": "mine"})

configure_logging("warning")
logging.getLogger("a.library").warning("take %s", "care")
logging.getLogger("a.library").info("all is well")
asyncio.run(main())
"""


def test_logs_are_lines_of_json_from_a_level_on_with_the_request_and_what_broke_it() -> None:
    done = subprocess.run([sys.executable, "-c", LOGGING], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    library, own = [line for line in lines if line["event"] != "redis-unavailable"]  # which what runs beside may find in time
    assert done.stdout == ""
    assert (library["event"], library["level"], library["logger"]) == ("take care", "warning", "a.library")
    assert (own["event"], own["request_id"], own["method"], own["path"]) == ("unexpected", "mine", "GET", "/broken")
    assert "ZeroDivisionError: by nought" in own["exception"]
    assert library["timestamp"] <= own["timestamp"]


async def test_a_connection_that_redis_has_closed_is_replaced(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    assert (await client.get("/v1/jobs")).status_code == 200
    await worker.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert (await client.get("/v1/jobs")).status_code == 200


async def test_a_redis_that_hangs_is_unavailable(settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr(resources, "ANSWERS_WITHIN", 0.2)
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        async with client_of(create_app(settings.model_copy(update={"redis_url": url}))) as client:
            assert_problem(await asyncio.wait_for(client.get("/v1/jobs"), 10), 503, "redis-unavailable")


async def test_to_wait_for_news_of_a_job_is_not_to_wait_for_redis(
    settings: GatewaySettings, worker: InTestWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "ANSWERS_WITHIN", 1.0)
    monkeypatch.setattr(resources, "BLOCK", 3.0)
    monkeypatch.setattr("service.events.BLOCK", 3.0)
    async with client_of(create_app(settings)) as client:
        job_id = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
        waiting = client.post("/v1/generate", json={"prompt": "a car"}, headers={"Prefer": "wait=3"})
        following = asyncio.create_task(client.get(f"/v1/jobs/{job_id}/events"))
        assert (await waiting).status_code == 202
        await worker.end(job_id)
        assert (await following).text.count("event: ") == 3


async def test_every_answer_has_a_request_id_the_clients_own_if_it_is_one(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/healthz")).headers["x-request-id"]
    assert (await client.get("/healthz", headers={"X-Request-ID": "abc-1"})).headers["x-request-id"] == "abc-1"
    assert (await client.get("/healthz", headers={"X-Request-ID": "a b" * 99})).headers["x-request-id"] != "a b" * 99


@pytest.mark.parametrize("value", ["x" * 10_000, "\ud800", 2**100, float("nan"), {"a": ["b"]}, b"\xff", None, True])
def test_whatever_was_wrong_can_be_shown(value: object) -> None:
    assert (
        len(problem(Code.INTERNAL, "x", errors=[FieldError(field="f", detail="d", value=shown(value))]).model_dump_json()) < 1000
    )


def test_an_error_of_our_own_keeps_what_it_was_given() -> None:
    error = ServiceError(Code.QUEUE_FULL, "full", retry_after=5)
    assert (str(error), error.code, error.retry_after) == ("full", Code.QUEUE_FULL, 5)


def test_the_gateway_is_imported_without_torch_and_not_much_slower_than_its_framework() -> None:
    probe = """
import sys, time
begun = time.process_time()
import docket, fastapi, numpy, redis
framework = time.process_time()
import service.app
print((time.process_time() - framework) / (framework - begun))
print(sorted({"torch", "diffusers", "transformers", "worker", "launcher"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    ratio, found = done.stdout.splitlines()
    assert found == "[]"
    assert float(ratio) < 3


def test_redis_is_real(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        assert redis.info("server")["server_name"] == "valkey"


def test_a_list_has_the_elements_before_its_end() -> None:
    assert [inside(part, ["a", "b"]) for part in (0, 1, 2, "a")] == [True, True, False, False]
    assert [inside(part, value) for part, value in (("a", {"a": 1}), ("b", {"a": 1}), (0, "ab"))] == [True, False, False]
