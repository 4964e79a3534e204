"""With keys: who is let in, what a tenant sees, and that no route can forget to ask."""

import asyncio
import json
import re
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import structlog
from openapi_spec_validator import validate
from redis.asyncio import Redis
from structlog.testing import capture_logs

from contracts.schema.access import KeyCard, Limits
from contracts.schema.jobs import utc_now
from contracts.state import keys
from contracts.state.keyring import Admission, Keyring
from contracts.state.registry import Registry
from service import examples
from service.access import PUBLIC
from service.app import create_app
from service.integrations import openai_images
from service.limits import too_fast
from service.settings import GatewaySettings
from tests.service.in_test_worker import InTestWorker
from tests.service.serving import Json, assert_problem, client_of

CAR = {"prompt": "a car"}
OF_ALL = {"list_models", "list_methods"}  # what every tenant sees the same of
LISTINGS = {"list_jobs": "jobs", "list_tokens": "tokens", "list_datasets": "datasets"}
OWN = {
    "openai_generate",
    "openai_edit",
    "generate",
    "image",
    "import_tokens",
    "get_webhook_secret",
    "rotate_webhook_secret",
}  # what names nobody's things
API = create_app(GatewaySettings(keys="required")).openapi()
OPERATIONS = [
    (path, method, operation)
    for path, item in API["paths"].items()
    for method, operation in item.items()
    if not PUBLIC.fullmatch(path)
]


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"keys": "required", "max_queued": 100})


@pytest.fixture
async def ring(redis: Redis) -> Keyring:
    return Keyring(redis)


async def authorized(ring: Keyring, tenant: str, *scopes: Any, name: str | None = None, **options: Any) -> dict[str, str]:
    """The header of a new key of a tenant."""
    card = KeyCard(
        name=name or tenant, tenant=tenant, scopes=list(scopes or ("generate", "read")), created_at=utc_now(), **options
    )
    return {"Authorization": f"Bearer {await ring.create(card)}"}


@pytest.fixture
async def anne(ring: Keyring) -> dict[str, str]:
    return await authorized(ring, "anne")


@pytest.fixture
async def bert(ring: Keyring) -> dict[str, str]:
    return await authorized(ring, "bert")


@pytest.fixture
async def generated(client: httpx2.AsyncClient, worker: InTestWorker, anne: dict[str, str]) -> str:
    """A generate job of Anne's that succeeded."""
    answer = await client.post("/v1/generate", json=CAR, headers=anne)
    return (await worker.end(answer.json()["id"])).id


@pytest.fixture
async def learned(client: httpx2.AsyncClient, worker: InTestWorker, anne: dict[str, str]) -> str:
    """A token of Anne's."""
    answer = await client.post("/v1/tokens", json=examples.IMPORT, headers=anne)
    await worker.end(answer.json()["id"])
    card = await Registry(worker.redis, "anne").get("car@1")
    await worker.store.put(keys.token_object(card.id, "safetensors"), b"rows")
    return card.reference


@pytest.fixture
async def dataset(client: httpx2.AsyncClient, generated: str, anne: dict[str, str]) -> str:
    """A data set of Anne's."""
    assert generated
    request = {"classes": [{"name": "car"}], "prompts": ["a car"]}
    return (await client.post("/v1/datasets", json=request, headers=anne)).json()["id"]


async def ask(client: httpx2.AsyncClient, path: str, method: str, operation: Json, job: str, **headers: str) -> httpx2.Response:
    """Send an operation's example about this job and Anne's token."""
    reference = "car" if method == "patch" or path.endswith("/versions") else "car@1"
    place = path.replace("{job_id}", job).replace("{reference}", reference).replace("{name}", "image-0.png")
    body = operation.get("requestBody")
    if body is None:
        return await client.request(method, place, headers=headers)
    text = json.dumps(body["content"]["application/json"]["examples"]["example"]["value"])
    content = re.sub(r'"job_id": "\w{26}"', f'"job_id": "{job}"', text)
    return await client.request(method, place, content=content, headers=headers | {"Content-Type": "application/json"})


async def test_another_tenant_finds_nothing_by_any_operation(
    client: httpx2.AsyncClient,
    redis: Redis,
    bert: dict[str, str],
    generated: str,
    learned: str,
    dataset: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openai_images, "LONGEST_WAIT", 0.1)  # nobody draws here
    token = (await Registry(redis, "anne").get(learned)).id
    found = {}
    for path, method, operation in OPERATIONS:
        answer = await ask(client, path.replace("{dataset_id}", dataset), method, operation, generated, **bert)
        name = operation["operationId"]
        if name in LISTINGS:
            listed = {each.get("id") for each in answer.json()[LISTINGS[name]]}  # perhaps what this test has submitted itself
            assert answer.status_code == 200
            assert not listed & {generated, token, dataset}
        elif name not in OF_ALL | OWN:
            found[name] = answer.status_code
    assert found.pop("metrics") == 403
    assert set(found.values()) == {404}, found
    assert {"get_job", "follow_job", "get_artifact", "cancel_job", "delete_job", "attribute", "probe", "optimize"} < set(found)
    assert {"get_dataset", "pause_dataset", "export_dataset", "delete_dataset", "create_dataset"} < set(found)
    assert {"get_token", "list_versions", "get_token_file", "rename_token", "delete_token"} < set(found)


async def test_another_tenant_starts_from_no_image_and_compares_with_none(
    client: httpx2.AsyncClient, bert: dict[str, str], generated: str
) -> None:
    theirs = {"job_id": generated, "image": 0}
    steered = [
        {"image": theirs},
        {"control": {"name": "edges", "image": theirs}},
        {"image_prompt": {"name": "looks", "image": theirs}},
    ]
    answers = [await client.post("/v1/generate", json={"prompt": "a car"} | each, headers=bert) for each in steered]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "unknown-job")] * len(steered)


async def test_each_tenant_has_a_secret_of_its_own(
    client: httpx2.AsyncClient, anne: dict[str, str], bert: dict[str, str]
) -> None:
    async def secret(of: dict[str, str]) -> str:
        return (await client.get("/v1/webhooks/secret", headers=of)).json()["secret"]

    hers, his = await secret(anne), await secret(bert)
    assert hers != his
    await client.post("/v1/webhooks/secret", headers=bert)
    assert (await secret(anne), await secret(bert) != his) == (hers, True)


async def test_the_owner_finds_everything(client: httpx2.AsyncClient, anne: dict[str, str], generated: str, learned: str) -> None:
    for path in (f"/v1/jobs/{generated}", f"/v1/jobs/{generated}/artifacts/image-0.png", f"/v1/tokens/{learned}/file"):
        assert (await client.get(path, headers=anne)).status_code == 200
    assert (await client.get(f"/v1/jobs/{generated}", headers=anne)).json()["tenant"] == "anne"
    assert len((await client.get("/v1/jobs", headers=anne)).json()["jobs"]) == 2
    assert [each["name"] for each in (await client.get("/v1/tokens", headers=anne)).json()["tokens"]] == ["car"]


async def test_no_operation_but_the_public_ones_is_open_to_who_has_no_key_or_lacks_the_scope(
    client: httpx2.AsyncClient, ring: Keyring, generated: str, redis: Redis
) -> None:
    nothing = await authorized(ring, "anne", "admin", name="scraper")
    before = sorted([key async for key in redis.scan_iter("ovam:job*")])
    for path, method, operation in OPERATIONS:
        answer = await ask(client, path, method, operation, generated)
        assert_problem(answer, 401, "unauthenticated", "Authorization")
        assert answer.headers["www-authenticate"] == 'Bearer realm="ovam"'
        answer = await ask(client, path, method, operation, generated, **nothing)
        if path != "/metrics":
            assert_problem(answer, 403, "scope-missing")
            scope = operation["security"][0]["key"][0]
            assert answer.headers["www-authenticate"] == f'Bearer realm="ovam", error="insufficient_scope", scope="{scope}"'
            assert f"needs {scope}" in answer.json()["detail"]
    assert sorted([key async for key in redis.scan_iter("ovam:job*")]) == before
    assert (await client.get("/metrics", headers=nothing)).status_code == 200
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs", "/problems/scope-missing"):
        assert (await client.get(path)).status_code == 200
    for path in ("/v2", "/healthz/all", "/docs/elsewhere", "/openapi.json.old"):  # public is what is named, and nothing below it
        assert_problem(await client.get(path), 401, "unauthenticated")


@pytest.mark.usefixtures("worker")
async def test_what_is_no_key_that_is_valid_now_lets_nobody_in(client: httpx2.AsyncClient, ring: Keyring) -> None:
    valid = (await authorized(ring, "anne"))["Authorization"]
    key = valid.removeprefix("Bearer ")
    wrong = [
        key,
        f"Basic {key}",
        f"Bearer {key[:-1]}",
        f"Bearer {key}x",
        "Bearer",
        f"Bearer ovam_{'a' * 43}",
        f"Bearer {key} {key}",
    ]
    for value in wrong:
        answer = await client.get("/v1/jobs", headers={"Authorization": value})
        assert_problem(answer, 401, "unauthenticated", "Authorization")
        assert key not in answer.text
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    twice = [("Authorization", valid), ("Authorization", valid)]
    assert (await client.get("/v1/jobs", headers=twice)).status_code == 401
    assert (await client.get("/v1/jobs", params={"key": key})).status_code == 401
    assert (await client.get("/v1/jobs", headers={"Authorization": f"bearer {key}"})).status_code == 200
    over = await authorized(ring, "anne", name="over", expires_at=utc_now() - timedelta(seconds=1))
    assert "was valid until" in assert_problem(await client.get("/v1/jobs", headers=over), 401, "unauthenticated")["detail"]
    await ring.revoke("anne")
    assert (await client.get("/v1/jobs", headers={"Authorization": valid})).status_code == 401


async def test_only_digests_of_keys_are_stored(ring: Keyring, redis: Redis) -> None:
    key = (await authorized(ring, "anne"))["Authorization"].removeprefix("Bearer ")
    stored = [await redis.dump(name) async for name in redis.scan_iter("*")]
    assert stored
    assert all(key.encode() not in each for each in stored)


async def test_a_key_costs_one_round_trip(client: httpx2.AsyncClient, redis: Redis, anne: dict[str, str]) -> None:
    await client.get("/v1/methods", headers=anne)  # now there is a connection, and Redis knows the script
    await redis.config_resetstat()
    await client.get("/v1/methods", headers=anne)
    calls = {name: each["calls"] for name, each in (await redis.info("commandstats")).items()}
    assert {name: calls.get(f"cmdstat_{name}", 0) for name in ("evalsha", "hget", "get")} == {"evalsha": 1, "hget": 1, "get": 0}


@pytest.mark.usefixtures("worker")
async def test_two_keys_of_a_tenant_see_the_same(client: httpx2.AsyncClient, ring: Keyring, generated: str) -> None:
    second = await authorized(ring, "anne", name="second")
    assert (await client.get(f"/v1/jobs/{generated}", headers=second)).status_code == 200


@pytest.mark.usefixtures("worker")
async def test_idempotency_keys_are_a_tenants_own(client: httpx2.AsyncClient, anne: dict[str, str], bert: dict[str, str]) -> None:
    posts = [await client.post("/v1/generate", json=CAR, headers=who | {"Idempotency-Key": "k"}) for who in (anne, bert, anne)]
    first, other, again = (post.json()["id"] for post in posts)
    assert first == again != other


async def test_names_of_tokens_are_a_tenants_own(
    client: httpx2.AsyncClient, worker: InTestWorker, bert: dict[str, str], learned: str
) -> None:
    answer = await client.post("/v1/tokens", json=examples.IMPORT, headers=bert)
    await worker.end(answer.json()["id"])
    assert (await client.delete(f"/v1/tokens/{learned}", headers=bert)).status_code == 204
    assert (await client.get(f"/v1/tokens/{learned}", headers=bert)).status_code == 404
    assert await worker.redis.hkeys(keys.of("anne", keys.TOKENS)) == [b"car"]


@pytest.mark.usefixtures("worker")
async def test_what_was_made_with_keys_is_nobodys_without(settings: GatewaySettings, generated: str) -> None:
    async with client_of(create_app(settings.model_copy(update={"keys": "off"}))) as anybody:
        assert (await anybody.get(f"/v1/jobs/{generated}")).status_code == 404
        assert (await anybody.get("/v1/jobs")).json()["jobs"] == []


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(("milliseconds", "seconds"), [(0, 1), (1000, 1), (1001, 2)])
def test_who_is_too_fast_waits_a_whole_number_of_seconds_and_at_least_one(milliseconds: int, seconds: int) -> None:
    card = KeyCard(name="a", tenant="a", scopes=["read"], limits=Limits(requests_per_second=2), created_at=utc_now())
    assert too_fast(Admission(card, within_rate=False, remaining=0, milliseconds=milliseconds)).retry_after == seconds


async def test_requests_beyond_the_rate_are_refused_until_one_is_free(client: httpx2.AsyncClient, ring: Keyring) -> None:
    slow = await authorized(ring, "anne", limits=Limits(requests_per_second=0.01, queued=7))
    first = await client.get("/v1/jobs", headers=slow)
    assert first.status_code == 200
    assert first.headers["ratelimit-policy"] == '"requests";q=1;w=100, "queued";q=7;qu="concurrent-requests"'
    assert first.headers["ratelimit"] == '"requests";r=0;t=100'
    second = await client.get("/v1/jobs", headers=slow)
    assert "0.01 requests a second" in assert_problem(second, 429, "rate-limited")["detail"]
    assert 0 < int(second.headers["retry-after"]) <= 100
    assert second.headers["ratelimit"].startswith('"requests";r=0;t=')
    fast = await authorized(ring, "bert", limits=Limits(requests_per_second=50))
    left = [(await client.get("/v1/jobs", headers=fast)).headers["ratelimit"] for _ in range(3)]
    assert all(re.fullmatch(r'"requests";r=4[6-9];t=1', each) for each in left)


async def test_what_a_tenant_may_have_waiting_is_counted_lane_by_lane(
    client: httpx2.AsyncClient, ring: Keyring, worker: InTestWorker, generated: str
) -> None:
    few = await authorized(ring, "anne", name="few", limits=Limits(queued=1))
    probe = {"point": [0, 0], "words": ["car"]}
    assert (await client.post("/v1/generate", json=CAR, headers=few)).status_code == 202
    answer = await client.post("/v1/generate", json=CAR, headers=few)
    assert "1 jobs" in assert_problem(answer, 429, "queue-limit-reached")["detail"]
    assert answer.headers["retry-after"]
    assert '"queued";r=0' in answer.headers["ratelimit"]
    probed = await client.post(f"/v1/jobs/{generated}/probe", json=probe, headers=few)
    assert probed.status_code == 202, probed.text
    assert await worker.redis.zcard(keys.waiting(keys.INTERACTIVE, "anne")) == 1


async def test_device_time_and_bytes_are_counted_and_bytes_given_back(
    client: httpx2.AsyncClient, ring: Keyring, worker: InTestWorker, generated: str
) -> None:
    limited = {"name": "limited", "limits": Limits(device_seconds_per_day=1000, bytes_kept=100)}
    headers = await authorized(ring, "anne", **limited)
    answer = await client.post("/v1/generate", json=CAR, headers=headers)
    assert "100 bytes" in assert_problem(answer, 403, "storage-limit-reached")["detail"]
    assert 80_000 < int(answer.headers["retry-after"]) <= 86_400
    assert (await client.delete(f"/v1/jobs/{generated}", headers=headers)).status_code == 204
    assert await worker.redis.get(keys.bytes_kept("anne")) == b"0"
    assert (await client.post("/v1/generate", json=CAR, headers=headers)).status_code == 202
    await worker.redis.incrbyfloat(keys.device_seconds("anne", utc_now().date()), 1000)
    answer = await client.post("/v1/generate", json=CAR, headers=headers)
    assert "1000 s" in assert_problem(answer, 429, "device-limit-reached")["detail"]
    assert 0 < int(answer.headers["retry-after"]) <= 86_400


async def test_a_key_may_let_go_what_was_used_longest_ago_instead_of_being_refused(
    client: httpx2.AsyncClient, ring: Keyring, worker: InTestWorker, generated: str
) -> None:
    headers = await authorized(ring, "anne", name="limited", limits=Limits(bytes_kept=100, when_full="collect"))
    answer = await client.post("/v1/generate", json=CAR, headers=headers)
    assert "used in the last 15 minutes" in assert_problem(answer, 403, "storage-limit-reached")["detail"]
    await worker.redis.zadd(keys.USED, {generated: 1})
    assert (await client.post("/v1/generate", json=CAR, headers=headers)).status_code == 202
    assert (await client.get(f"/v1/jobs/{generated}", headers=headers)).json()["state"] == "expired"
    assert await worker.redis.get(keys.bytes_kept("anne")) == b"0"


async def test_files_of_expired_jobs_are_counted_no_longer(
    client: httpx2.AsyncClient, ring: Keyring, worker: InTestWorker, generated: str
) -> None:
    headers = await authorized(ring, "anne", name="limited", limits=Limits(bytes_kept=100))
    (member,) = await worker.redis.zrange(keys.kept("anne"), 0, -1)
    assert member.startswith(generated.encode())
    await worker.redis.zadd(keys.kept("anne"), {member: 1})
    assert (await client.post("/v1/generate", json=CAR, headers=headers)).status_code == 202
    assert await worker.redis.get(keys.bytes_kept("anne")) == b"0"


async def test_without_redis_nobody_is_let_in(settings: GatewaySettings) -> None:
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    async with client_of(create_app(away)) as client:
        key = {"Authorization": f"Bearer ovam_{'a' * 43}"}
        assert_problem(await client.get("/v1/jobs", headers=key), 503, "redis-unavailable")
        assert (await client.get("/healthz")).status_code == 200


@pytest.fixture
async def others(ring: Keyring) -> list[dict[str, str]]:
    return [await authorized(ring, name) for name in ("anne", "bert")]


@pytest.mark.usefixtures("worker")
async def test_a_tenants_jobs_wait_behind_few_of_anothers(
    client: httpx2.AsyncClient, worker: InTestWorker, others: list[dict[str, str]]
) -> None:
    anne, bert = others
    many = [(await client.post("/v1/generate", json=CAR, headers=anne)).json()["id"] for _ in range(6)]
    one = (await client.post("/v1/generate", json=CAR, headers=bert)).json()["id"]
    async with asyncio.timeout(5):
        while await in_docket(worker) != [*many[:2], one]:  # a job is handed on after its client has the answer
            await asyncio.sleep(0.01)
    await client.delete(f"/v1/jobs/{many[0]}", headers=anne)
    assert await in_docket(worker) == [many[1], one, many[2]]
    await client.post(f"/v1/jobs/{many[1]}/cancel", headers=anne)
    assert await in_docket(worker) == [one, many[2], many[3]]


async def in_docket(worker: InTestWorker) -> list[str]:
    """The jobs that are in the docket of long ones, in their order."""
    return [fields[b"key"].decode() for _, fields in await worker.redis.xrange(f"{keys.DOCKET}:stream")]


def test_the_description_says_which_scope_each_operation_needs_and_how_it_may_be_refused() -> None:
    validate(API)
    assert API["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, method, operation in OPERATIONS:
        (scope,) = operation["security"][0]["key"]
        reads = method == "get" and path != "/v1/webhooks/secret"  # who has that can forge webhooks
        assert scope == ("admin" if path == "/metrics" else "read" if reads else "generate")
        assert {"401", "403", "429"} <= set(operation["responses"])
    free = [operation for path, item in API["paths"].items() for operation in item.values() if PUBLIC.fullmatch(path)]
    assert free
    assert not any("security" in operation for operation in free)
    assert "securitySchemes" not in create_app(GatewaySettings()).openapi()["components"]


@pytest.mark.parametrize(
    ("host", "chosen", "required"),
    [
        ("127.0.0.1", "auto", False),
        ("::1", "auto", False),
        ("0.0.0.0", "auto", True),  # noqa: S104  # nothing is bound
        ("192.0.2.1", "auto", True),
        ("127.0.0.1", "required", True),
        ("192.0.2.1", "off", False),
    ],
)
def test_keys_are_required_where_other_machines_reach_the_gateway(host: str, chosen: Any, *, required: bool) -> None:
    assert GatewaySettings(host=host, keys=chosen).keys_required is required


@pytest.mark.usefixtures("worker")
async def test_the_line_of_a_request_names_the_tenant(client: httpx2.AsyncClient, anne: dict[str, str]) -> None:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await client.post("/v1/generate", json=CAR, headers=anne)
    assert [line["tenant"] for line in lines if line["event"] == "request"] == ["anne"]
