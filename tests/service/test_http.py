"""What browsers, proxies and monitors expect: HEAD, other origins, a path prefix, a page that needs no internet."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import docs
from service.app import create_app
from service.middleware import HeadAsGet
from service.settings import GatewaySettings
from tests.service.in_test_worker import IMAGE, InTestWorker, token
from tests.service.serving import assert_problem, client_of, served

CAR = {"prompt": "a car"}
DATASET = {"classes": [{"name": "car"}], "prompts": ["a car"]}
GETS = [
    (path.replace("{code}", "queue-full").replace("{reference}", "cat").replace("{name}", "image-0.png"), operation["get"])
    for path, operation in create_app(GatewaySettings()).openapi()["paths"].items()
    if "get" in operation
]
OTHERS = ["/", "/web/app.js", "/openapi.json", "/docs", "/docs/files/swagger-ui.css"]
DIFFERENT = {"x-request-id", "date", "transfer-encoding"}


@pytest.mark.parametrize("path", [path for path, _ in GETS] + OTHERS)
async def test_head_answers_as_get_without_a_body(online: httpx2.AsyncClient, worker: InTestWorker, path: str) -> None:
    job_id = (await online.post("/v1/generate", json=CAR)).json()["id"]
    await worker.end(job_id)
    await worker.publish_token(token("cat"))
    address = path.replace("{job_id}", job_id)
    if "{dataset_id}" in path:
        dataset = (await online.post("/v1/datasets", json=DATASET)).json()["id"]
        await online.post(f"/v1/datasets/{dataset}/cancel")
        address = path.replace("{dataset_id}", dataset)
    get, head = await online.get(address), await online.head(address)
    assert get.content
    assert (head.status_code, head.content) == (get.status_code, b"") == (200, b"")
    wanted = {name: value for name, value in get.headers.items() if name not in DIFFERENT}
    if path == "/metrics":  # they have changed meanwhile
        wanted.pop("content-length")
    assert wanted.items() <= {**head.headers}.items()


async def test_head_of_a_part_and_of_what_is_known_is_as_get(client: httpx2.AsyncClient, generated: str) -> None:
    path = f"/v1/jobs/{generated}/artifacts/image-0.png"
    whole = await client.head(path)
    assert whole.headers["content-length"] == str(len(IMAGE))
    part = await client.head(path, headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.headers["content-length"], part.content) == (206, "4", b"")
    assert (await client.head(path, headers={"If-None-Match": whole.headers["etag"]})).status_code == 304
    missing = await client.head(f"/v1/jobs/{generated}/artifacts/none")
    assert (missing.status_code, missing.headers["content-type"], missing.content) == (404, "application/problem+json", b"")


async def test_head_of_events_does_not_wait_for_the_end_of_the_job(online: httpx2.AsyncClient, worker: InTestWorker) -> None:
    job_id = (await online.post("/v1/generate", json=CAR)).json()["id"]
    answer = await asyncio.wait_for(online.head(f"/v1/jobs/{job_id}/events"), 5)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (await worker.end(job_id)).state == "succeeded"


@pytest.mark.usefixtures("worker")
async def test_head_is_not_possible_where_get_is_not(client: httpx2.AsyncClient) -> None:
    answer = await client.head("/v1/generate")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")


async def answered(app: ASGIApp, method: str) -> list[Message]:
    """What an app sends."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    await app({"type": "http", "method": method}, receive, send)
    return sent


async def test_a_body_that_never_ends_is_given_up_for_head() -> None:
    async def endless(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await asyncio.sleep(0)

    start = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
    assert await asyncio.wait_for(answered(HeadAsGet(endless), "HEAD"), 5) == [start, {"type": "http.response.body", "body": b""}]


async def test_an_app_that_breaks_breaks_for_head_too() -> None:
    async def broken(_: Scope, __: Receive, ___: Send) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await answered(HeadAsGet(broken), "HEAD")


ORIGIN = {"Origin": "https://app.example"}
ASKS = {**ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,prefer"}


@asynccontextmanager
async def changed(settings: GatewaySettings, **changes: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an app with other settings."""
    found = GatewaySettings.model_validate(settings.model_dump() | changes)
    async with client_of(create_app(found)) as client:
        yield client


@pytest.mark.usefixtures("worker")
async def test_pages_of_other_origins_may_call_when_the_setting_says_so(settings: GatewaySettings) -> None:
    async with changed(settings, cors_origins="https://app.example, http://localhost:5173") as client:
        for origin, allowed in (("https://app.example", True), ("http://localhost:5173", True), ("https://evil.example", False)):
            asked = await client.options("/v1/generate", headers=ASKS | {"Origin": origin})
            assert (asked.status_code == 200) is allowed
            answer = await client.post("/v1/generate", json=CAR, headers={"Origin": origin})
            assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
        readable = (await client.get("/healthz", headers=ORIGIN)).headers["access-control-expose-headers"].lower()
        assert {"location", "retry-after", "etag", "x-request-id"} <= {*readable.split(", ")}
        asked = await client.options("/v1/tokens/cat", headers=ASKS | {"Access-Control-Request-Method": "PATCH"})
        assert asked.status_code == 200
        refusal = await client.get("/v2", headers=ORIGIN)
        assert (refusal.status_code, refusal.headers["access-control-allow-origin"]) == (404, ORIGIN["Origin"])
    async with changed(settings, cors_origins="*") as client:
        assert (await client.options("/v1/generate", headers=ASKS)).headers["access-control-allow-origin"] == "*"


ALWAYS_READABLE = {"cache-control", "content-type", "content-length"}  # so say browsers


async def test_pages_of_other_origins_may_read_every_header(settings: GatewaySettings, worker: InTestWorker) -> None:
    async with changed(settings, cors_origins="*") as client:
        headers = ORIGIN | {"Idempotency-Key": "k1", "Prefer": "wait=1"}
        first = await client.post("/v1/generate", json=CAR, headers=headers)
        job_id = first.json()["id"]
        await worker.end(job_id)
        await worker.publish_token(token("cat"))
        part = ORIGIN | {"Range": "bytes=0-1"}
        answers = [
            first,
            await client.post("/v1/generate", json=CAR, headers=headers),
            await client.get(f"/v1/jobs/{job_id}/artifacts/image-0.png", headers=part),
            await client.get("/v1/tokens/cat/file", headers=part),
        ]
        assert [answer.status_code for answer in answers] == [202, 201, 206, 206]
        for answer in answers:
            readable = {*answer.headers["access-control-expose-headers"].lower().split(", ")}
            own = {name for name in answer.headers if name != "vary" and not name.startswith("access-control-")}
            assert own <= readable | ALWAYS_READABLE


async def test_without_the_setting_no_other_origin_is_allowed(client: httpx2.AsyncClient) -> None:
    for answer in (await client.options("/v1/generate", headers=ASKS), await client.get("/healthz", headers=ORIGIN)):
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origins", ["app.example", "https://app.example/", "https://a.example/path", "*, ftp://x"])
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(ValueError, match=r"is no origin; allowed: \* or scheme://host"):
        GatewaySettings(cors_origins=origins)


@pytest.mark.parametrize("root", ["ovam", "/ovam/", "/", "/o v", "https://x/ovam"])
def test_what_is_no_root_path_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match="root_path"):
        GatewaySettings(root_path=root)


@pytest.mark.parametrize("kept", [False, True], ids=["the proxy strips the prefix", "the proxy keeps the prefix"])
async def test_behind_a_path_prefix_every_address_leads_back(
    settings: GatewaySettings, worker: InTestWorker, *, kept: bool
) -> None:
    async with changed(settings, root_path="/a/ovam") as client:

        def path(address: str) -> str:
            """What the gateway gets when a client asks for an address."""
            assert address.startswith("/a/ovam/"), address
            return address if kept else address.removeprefix("/a/ovam")

        location = (await client.post(path("/a/ovam/v1/generate"), json=CAR)).headers["location"]
        ended = await worker.end(location.rpartition("/")[2])
        for record in (
            (await client.get(path(location))).json(),
            (await client.post(path("/a/ovam/v1/generate"), json=CAR, headers={"Prefer": "wait=0"})).json(),
        ):
            assert record["kind"] == "generate"
        address = (await client.get(path(location))).json()["result"]["images"][0]["image"]["url"]
        assert (await client.get(path(address))).content == IMAGE
        assert ended.result is not None
        problem = (await client.get(path("/a/ovam/v1/jobs/none"))).json()
        assert problem["instance"] == "/a/ovam/v1/jobs/none"
        refused = await client.post(path("/a/ovam/v1/generate"), json={"prompt": "a" * settings.max_body_bytes})
        assert (refused.status_code, refused.json()["instance"]) == (413, "/a/ovam/v1/generate")
        assert (await client.get(path(problem["type"]))).json()["code"] == "unknown-job"
        assert 'route="/v1/generate"' in (await client.get(path("/a/ovam/metrics"))).text
        page = (await client.get(path("/a/ovam/docs"))).text
        for link in linked(page):
            assert (await client.get(path(link))).status_code == 200
        (description,) = re.findall(r"url: '([^']+)'", page)
        assert (await client.get(path(description))).json()["servers"] == [{"url": "/a/ovam"}]


async def test_a_path_that_only_begins_like_the_prefix_is_below_it(settings: GatewaySettings) -> None:
    async with changed(settings, root_path="/health") as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/healthy")).json()["instance"] == "/health/healthy"


async def test_without_a_prefix_addresses_begin_with_the_root(client: httpx2.AsyncClient, generated: str) -> None:
    record = (await client.get(f"/v1/jobs/{generated}")).json()
    assert record["result"]["images"][0]["image"]["url"] == f"/v1/jobs/{generated}/artifacts/image-0.png"
    assert assert_problem(await client.get("/v2"), 404, "not-found")["instance"] == "/v2"
    assert "servers" not in (await client.get("/openapi.json")).json()


def linked(page: str) -> list[str]:
    """What a page loads."""
    return re.findall(r"""(?:src|href)=["']([^"']+)["']""", page)


async def test_the_documentations_page_needs_no_internet(settings: GatewaySettings) -> None:
    async with served(create_app(settings)) as client:
        page = (await client.get("/docs")).text
        assert len(linked(page)) == 3
        assert not re.findall(r"https?://", page)
        for link in linked(page):
            answer = await client.get(link)
            assert (answer.status_code, len(answer.content) > 500) == (200, True)
        assert '"validatorUrl": null' in page
        assert (await client.get("/redoc")).status_code == 404


def test_the_pages_files_come_with_their_licence() -> None:
    assert "Apache License" in (docs.FILES / "LICENSE").read_text()
    assert "http" not in re.sub(r"http://www.w3.org/\S+", "", (docs.FILES / "swagger-ui.css").read_text())
