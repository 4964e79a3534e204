import httpx2
import pytest
from redis.asyncio import Redis

from contracts.state import keys, ledger
from contracts.state.transitions import LostJob
from service.settings import GatewaySettings
from tests.service.in_test_worker import InTestWorker
from tests.service.serving import Json, Traces, assert_problem

CAR = {"prompt": "a car"}


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"max_queued": 100})


async def submit(client: httpx2.AsyncClient, count: int = 1) -> list[str]:
    return [(await client.post("/v1/generate", json=CAR)).json()["id"] for _ in range(count)]


@pytest.mark.usefixtures("worker")
async def test_a_job_can_be_looked_at_from_the_moment_it_is_accepted(client: httpx2.AsyncClient) -> None:
    posted = await client.post("/v1/generate", json=CAR)
    assert (await client.get(posted.headers["location"])).json() == posted.json()


@pytest.mark.parametrize("job_id", ["0" * 26, "x", "*", "..%2F..%2Fetc", "%00", "ü"])
@pytest.mark.parametrize(
    ("method", "rest"), [("GET", ""), ("GET", "/events"), ("GET", "/artifacts/x"), ("POST", "/cancel"), ("DELETE", "")]
)
async def test_an_unknown_job_is_not_found(client: httpx2.AsyncClient, job_id: str, method: str, rest: str) -> None:
    answer = await client.request(method, f"/v1/jobs/{job_id}{rest}")
    assert answer.json()["code"] in ("unknown-job", "not-found")
    assert answer.status_code == 404


async def test_a_failed_job_says_why(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    (job_id,) = await submit(client)
    await worker.fail(job_id, "the accelerator is full")
    record = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert (record["state"], record["error"]["code"], record["error"]["detail"]) == (
        "failed",
        "out-of-memory",
        "the accelerator is full",
    )
    assert record["result"] is None


@pytest.mark.usefixtures("worker")
async def test_jobs_are_listed_newest_first_page_by_page(client: httpx2.AsyncClient) -> None:
    ids = await submit(client, 5)
    first = (await client.get("/v1/jobs", params={"limit": 2})).json()
    second = (await client.get("/v1/jobs", params={"limit": 2, "cursor": first["next"]})).json()
    third = (await client.get("/v1/jobs", params={"limit": 2, "cursor": second["next"]})).json()
    listed = [job["id"] for page in (first, second, third) for job in page["jobs"]]
    assert sorted(listed) == sorted(ids)
    assert listed == sorted(ids, reverse=True)
    assert third["next"] is None
    assert not {"request", "result"} & set(first["jobs"][0])


@pytest.mark.usefixtures("worker")
async def test_a_cursor_whose_job_was_deleted_still_works(client: httpx2.AsyncClient) -> None:
    ids = sorted(await submit(client, 3), reverse=True)
    first = (await client.get("/v1/jobs", params={"limit": 1})).json()
    await client.delete(f"/v1/jobs/{first['next']}")
    rest = (await client.get("/v1/jobs", params={"cursor": first["next"]})).json()
    assert [job["id"] for job in rest["jobs"]] == ids[1:]


@pytest.mark.usefixtures("worker")
async def test_a_listing_longer_than_what_is_read_at_once_is_whole(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contracts.state.ledger.PAGE", 2)
    ids = await submit(client, 5)
    assert len((await client.get("/v1/jobs")).json()["jobs"]) == len(ids)


async def test_jobs_are_listed_by_kind_and_state(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    first, second = await submit(client, 2)
    await worker.end(first)
    found = (await client.get("/v1/jobs", params={"state": "succeeded"})).json()["jobs"]
    assert [job["id"] for job in found] == [first]
    found = (await client.get("/v1/jobs", params={"state": "queued", "kind": "generate"})).json()["jobs"]
    assert [job["id"] for job in found] == [second]
    assert (await client.get("/v1/jobs", params={"kind": "optimize"})).json() == {"jobs": [], "next": None}


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"cursor": "x"}, {"kind": "dream"}, {"state": "lost"}])
async def test_a_listing_that_makes_no_sense_is_refused(client: httpx2.AsyncClient, query: Json) -> None:
    assert_problem(await client.get("/v1/jobs", params=query), 422, "invalid-request", next(iter(query)))


async def test_a_waiting_job_is_canceled_at_once_and_leaves_the_queue(
    client: httpx2.AsyncClient, worker: InTestWorker, traces: Traces
) -> None:
    (job_id,) = await submit(client)
    answer = await client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "canceled")
    assert await traces() == (1, 0, 1, 0)
    with pytest.raises(LostJob):
        await worker.begin(job_id)


async def test_a_running_job_is_asked_to_stop_at_its_next_step(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    (job_id,) = await submit(client)
    await worker.begin(job_id)
    answer = await client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.json()["state"], answer.json()["cancel_requested"]) == ("running", True)
    with pytest.raises(LostJob):
        await worker.step(job_id, 1)


async def test_a_job_behind_another_on_its_worker_is_queued_and_canceled_at_once(
    client: httpx2.AsyncClient, worker: InTestWorker
) -> None:
    (job_id,) = await submit(client)
    record = await worker.claim(job_id)
    seen = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert (seen["state"], seen["claimed"], seen["started_at"]) == ("queued", True, None)
    assert (await client.post(f"/v1/jobs/{job_id}/cancel")).json()["state"] == "canceled"
    with pytest.raises(LostJob):
        await worker.ledger.begin(job_id, record.attempt)


async def test_a_finished_job_cannot_be_canceled(client: httpx2.AsyncClient, generated: str) -> None:
    assert_problem(await client.post(f"/v1/jobs/{generated}/cancel"), 409, "job-finished", "job_id")


async def test_a_deleted_job_leaves_nothing_behind(
    client: httpx2.AsyncClient, worker: InTestWorker, generated: str, redis: Redis
) -> None:
    assert (await client.delete(f"/v1/jobs/{generated}")).status_code == 204
    assert_problem(await client.get(f"/v1/jobs/{generated}"), 404, "unknown-job")
    assert [key async for key in redis.scan_iter(f"*{generated}*") if not key.startswith(b"ovam:runs")] == []
    assert [key async for key in worker.store.keys_below(keys.job_folder(generated))] == []
    assert (await client.get("/v1/jobs")).json()["jobs"] == []
    assert_problem(await client.delete(f"/v1/jobs/{generated}"), 404, "unknown-job")


@pytest.mark.usefixtures("worker")
async def test_a_deleted_job_that_waits_leaves_the_queue(client: httpx2.AsyncClient, traces: Traces) -> None:
    (job_id,) = await submit(client)
    await client.delete(f"/v1/jobs/{job_id}")
    assert await traces() == (0, 0, 0, 0)


async def test_a_deleted_job_that_runs_is_lost_to_its_worker(client: httpx2.AsyncClient, worker: InTestWorker) -> None:
    (job_id,) = await submit(client)
    await worker.begin(job_id)
    assert (await client.delete(f"/v1/jobs/{job_id}")).status_code == 204
    with pytest.raises(LostJob):
        await worker.step(job_id, 1)


async def test_a_filtered_listing_reads_few_records_and_says_where_to_go_on(
    client: httpx2.AsyncClient, worker: InTestWorker, generated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "PAGE", 2)
    monkeypatch.setattr(ledger, "MOST_PAGES", 2)
    for _ in range(9):
        await worker.end((await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"])
    probed = (await client.post(f"/v1/jobs/{generated}/probe", json={"point": [1, 1], "words": ["car"]})).json()["id"]
    for _ in range(9):
        await worker.end((await client.post("/v1/generate", json={"prompt": "a car"})).json()["id"])
    pages, cursor = [], {}
    while cursor is not None:
        page = (await client.get("/v1/jobs", params={"kind": "probe", **cursor})).json()
        pages.append([job["id"] for job in page["jobs"]])
        cursor = {"cursor": page["next"]} if page["next"] else None
    assert len(pages) == 6  # 20 jobs, 4 looked at for each page, and one more to see that there are none
    assert [each for page in pages for each in page] == [probed]
