import httpx2
import pytest
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families
from pydantic import TypeAdapter

from ovam import __version__
from ovam.core.methods import METHODS, Method
from tests.service.in_test_worker import InTestWorker, card


async def metrics(client: httpx2.AsyncClient) -> dict[tuple[str, ...], float]:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE_LATEST
    text = answer.text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value for sample in samples}


async def test_the_process_is_well_without_anything(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_without_a_worker_the_service_is_not_ready_and_says_what_is_missing(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["redis"] == answer.json()["checks"]["store"] == "ok"
    assert "ovam worker" in answer.json()["checks"]["worker"]


@pytest.mark.usefixtures("worker")
async def test_with_a_worker_the_service_is_ready(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")


@pytest.mark.usefixtures("worker", "generated")
async def test_metrics_count_jobs_workers_and_requests(client: httpx2.AsyncClient) -> None:
    for _ in range(2):
        await client.post("/v1/generate", json={"prompt": "a car"})
    canceled = (await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"]
    await client.post(f"/v1/jobs/{canceled}/cancel")
    await client.get("/v1/jobs/nothing")
    found = await metrics(client)
    assert found["ovam_queue_depth", "normal"] == 2
    assert found["ovam_workers",] == 1
    assert found["ovam_build_info", __version__] == 1
    assert found["ovam_jobs_total", "generate", "submitted"] == 4
    assert found["ovam_jobs_total", "generate", "succeeded"] == 1
    assert found["ovam_jobs_total", "generate", "canceled"] == 1
    assert found["ovam_http_request_seconds_count", "POST", "/v1/generate", "202"] == 4
    assert found["ovam_http_request_seconds_count", "GET", "/v1/jobs/{job_id}", "404"] == 1


async def test_models_are_listed_by_name(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    await worker.publish(card("another", default=False))
    found = (await client.get("/v1/models")).json()["models"]
    assert [(model["name"], model["default"]) for model in found] == [("another", False), ("tiny", True)]


async def test_methods_that_clients_invent_are_one_in_the_metrics(client: httpx2.AsyncClient) -> None:
    for number in range(20):
        await client.request(f"M{number}", "/healthz")
    found = (await client.get("/metrics")).text
    assert 'method="other"' in found
    assert 'method="M' not in found


async def test_methods_are_listed_by_name_with_what_they_do_for_words_and_for_tokens(client: httpx2.AsyncClient) -> None:
    methods = {each["name"]: each for each in (await client.get("/v1/methods")).json()["methods"]}
    assert [*methods] == sorted(METHODS)
    for name, known in METHODS.items():
        settings = {kind: TypeAdapter(Method).dump_python(getattr(known, kind), mode="json") for kind in ("words", "tokens")}
        assert {kind: methods[name][kind] for kind in settings} == settings
        assert methods[name]["source"] == known.source
