"""Whatever body comes: it is bounded, validated beside the other requests, and executed only when all of it came."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack

import httpx2
import pytest

from contracts.schema.errors import Code
from service import bodies, examples
from service.app import create_app
from service.settings import GatewaySettings
from tests.service.gateway import raw, running
from tests.service.serving import Traces, assert_problem, client_of

JOB = "0" * 26
DECLARED = {"content-type": "application/json"}


def attribute(target: str) -> bytes:
    return f'{{"job_id": "{JOB}", "targets": [{target}]}}'.encode()


def optimize(mask: str) -> bytes:
    return f'{{"name": "a", "classes": ["a"], "examples": [{{"job_id": "{JOB}", "mask": {mask}}}]}}'.encode()


def many(item: str, megabytes: float) -> str:
    return ",".join([item] * int(megabytes * 2**20 / (len(item) + 1)))


BOMBS = {  # of a size that is read, or that was read before there was a limit for each route
    "strings in an embedding": ("/v1/attribute", attribute(f'{{"label": "x", "embedding": [[{many(chr(34) * 2, 0.5)}]]}}')),
    "rows in an embedding": ("/v1/attribute", attribute(f'{{"label": "x", "embedding": [{many("[]", 0.5)}]}}')),
    "numbers in an embedding": ("/v1/attribute", attribute(f'{{"label": "x", "embedding": [[{many("0.123456789", 8)}]]}}')),
    "targets": ("/v1/attribute", attribute(many("{}", 0.5))),
    "a kind of threshold": (
        "/v1/attribute",
        attribute(f'{{"word": "x", "settings": {{"threshold": {{"kind": "{"otsu" * 9**6}"}}}}}}'),
    ),
    "unknown keys": ("/v1/generate", json.dumps({f"k{number}": 1 for number in range(60_000)}).encode()),
    "unknown keys that are few enough": ("/v1/generate", json.dumps({f"k{number}": 1 for number in range(4000)}).encode()),
    "an unknown key": ("/v1/generate", json.dumps({"k" * 100_000: 1}).encode()),
    "run lengths": ("/v1/optimize", optimize(f'{{"size": [64, 48], "counts": [{many(chr(34) * 2, 8)}]}}')),
    "few enough run lengths": ("/v1/optimize", optimize(f'{{"size": [64, 48], "counts": [{many(chr(34) * 2, 1)}]}}')),
    "polygons": ("/v1/optimize", optimize(f"[{many('[]', 1)}]")),
    "brackets": ("/v1/optimize", b"[" * 2**22),
    "base64": ("/v1/tokens", json.dumps({"format": "npy", "file": "AAAA" * 2**20}).encode()),
}


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (json.dumps({"a": {"b": 1, "c:d": [{"e": 2}]}}), 4),
        ('{"a"\n:1,"b"\t: 2}', 2),
        (json.dumps({"jsonl": json.dumps({"prompt": "a car: red", "custom_id": "x"})}), 1),
        (json.dumps({"a\\": 1, 'b"': 2}), 2),
    ],
)
def test_fields_are_counted_outside_of_texts(body: str, count: int) -> None:
    assert bodies.fields(bytearray(body.encode())) == count


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.usefixtures("worker")
async def test_the_answer_to_a_large_body_is_small_and_names_few_fields(
    settings: GatewaySettings, traces: Traces, name: str
) -> None:
    path, body = BOMBS[name]
    async with client_of(create_app(settings.model_copy(update={"max_body_bytes": 2**23}))) as client:
        answer = await client.post(path, content=body, headers=DECLARED)
    assert answer.status_code in (400, 413, 422)
    assert len(answer.json()["errors"]) <= 20
    assert len(answer.content) < 20_000
    assert await traces() == (0, 0, 0, 0)


@pytest.mark.usefixtures("worker")
async def test_a_problem_says_how_many_fields_it_does_not_name(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/generate", json={f"k{number}": 1 for number in range(100)})
    found = assert_problem(answer, 422, "invalid-request", "k0")
    assert len(found["errors"]) == 20
    assert found["detail"].endswith("; and 96 more")


@pytest.mark.usefixtures("worker")
def test_whatever_bodies_come_the_gateway_answers_others_and_stays_small(redis_url: str, store_url: str) -> None:
    with running(redis_url, store_url) as gateway:
        slowest = gateway.slowest_health_during(lambda: gateway.post_all([*BOMBS.values()], at_once=4))
        assert slowest < 0.5  # seconds; 0.1 where nothing else runs
        assert gateway.peak_memory < 250


@pytest.mark.parametrize(
    ("path", "most"), [("/v1/generate", 2**23), ("/v1/attribute", 2**22), (f"/v1/jobs/{JOB}/probe", 2**18), ("/v1/tokens", 2**23)]
)
@pytest.mark.usefixtures("worker")
async def test_every_route_has_its_own_limit(settings: GatewaySettings, path: str, most: int) -> None:
    async with client_of(create_app(settings.model_copy(update={"max_body_bytes": 2**23}))) as client:
        answer = await client.post(path, content=b" " * most + b"{", headers=DECLARED)
        assert_problem(answer, 413, "body-too-large")
        assert_problem(await client.post(path, content=b" " * (most - 1) + b"{", headers=DECLARED), 400, "invalid-json")


async def test_a_body_where_none_belongs_is_read_and_refused_if_it_is_large(client: httpx2.AsyncClient, generated: str) -> None:
    assert_problem(await client.post(f"/v1/jobs/{generated}/cancel", content=b"{}"), 409, "job-finished")
    assert_problem(await client.request("DELETE", f"/v1/jobs/{generated}", content=b" " * 2**15), 413, "body-too-large")


@pytest.mark.parametrize("operation", ["generate", "images/edits"])
async def test_a_compressed_body_is_refused_by_its_encoding(client: httpx2.AsyncClient, operation: str) -> None:
    body = gzip.compress(b'{"prompt": "a car"}')
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = await client.post(f"/v1/{operation}", content=body, headers=headers)
    assert_problem(answer, 415, "unsupported-media-type", "Content-Encoding")
    assert "send it without `Content-Encoding`" in answer.text
    headers["Content-Encoding"] = "identity"
    assert (await client.post("/v1/generate", content=b"{}", headers=headers)).status_code == 422


async def test_who_sends_no_form_is_told_how_one_is_declared(client: httpx2.AsyncClient) -> None:
    for declared in ("multipart/form-data", "application/x-www-form-urlencoded"):
        answer = await client.post("/v1/images/edits", content=b"a=b", headers={"Content-Type": declared})
        assert_problem(answer, 415, "unsupported-media-type", "Content-Type")
        assert "or `multipart/form-data` with its boundary" in answer.text


HEAD = b"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
CUT = HEAD + b'100\r\n\r\n{"prompt": "a car"}'


@pytest.mark.usefixtures("worker")
async def test_a_request_that_was_cut_off_is_not_executed(online: httpx2.AsyncClient, traces: Traces) -> None:
    async with raw(online, CUT):
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.3)
    assert await traces() == (0, 0, 0, 0)


@pytest.mark.usefixtures("worker")
async def test_a_body_that_comes_too_slowly_is_given_up(
    online: httpx2.AsyncClient, traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "PATIENCE", 0.5)
    async with raw(online, CUT) as (reader, _):
        answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert Code.BODY_TOO_SLOW.encode() in answer
    assert await traces() == (0, 0, 0, 0)


@pytest.mark.usefixtures("worker")
async def test_large_bodies_are_few_at_a_time_and_small_ones_do_not_wait(
    online: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "SMALL", 1000)
    monkeypatch.setattr(bodies, "BUSY_FOR", 0.5)
    part, small = HEAD + b"9000\r\n\r\n" + b" " * 2000, b'{"prompt": "a car"}'
    large = small + b" " * 2000
    async with AsyncExitStack() as held:
        for _ in range(bodies.LARGE_AT_A_TIME):
            await held.enter_async_context(raw(online, part))
        await asyncio.sleep(0.2)
        answer = await online.post("/v1/generate", content=large, headers=DECLARED)
        assert_problem(answer, 503, "gateway-busy")
        assert answer.headers["retry-after"]
        assert (await online.post("/v1/generate", content=small, headers=DECLARED)).status_code == 202
    await asyncio.sleep(0.2)
    assert (await online.post("/v1/generate", content=large, headers=DECLARED)).status_code == 202


def surrogates(value: object) -> Iterator[object]:
    """A request with a lone surrogate in one of its texts, or of its keys, in turn."""
    match value:
        case str():
            yield "a\ud800"
        case dict():
            for name, inner in value.items():
                yield from ({**value, name: changed} for changed in surrogates(inner))
            yield {**value, "a\udfff": 1}
        case list():
            for place, inner in enumerate(value):
                yield from ([*value[:place], changed, *value[place + 1 :]] for changed in surrogates(inner))


@pytest.mark.parametrize(
    ("path", "request_body"),
    [
        ("/v1/generate", examples.GENERATE_JOB),
        ("/v1/attribute", examples.ATTRIBUTE),
        ("/v1/optimize", examples.OPTIMIZE | {"examples": [{"job_id": JOB, "mask": {"size": [1, 1], "counts": "0"}}]}),
        ("/v1/optimize", examples.OPTIMIZE | {"examples": [{"job_id": JOB, "masks": {"a": "AAAA"}}]}),
        (f"/v1/jobs/{JOB}/probe", examples.PROBE),
        ("/v1/images", examples.IMAGE),
        ("/v1/tokens", examples.IMPORT),
    ],
)
@pytest.mark.usefixtures("worker")
async def test_text_that_utf8_cannot_hold_is_no_json_wherever_it_stands(
    client: httpx2.AsyncClient, path: str, request_body: dict[str, object]
) -> None:
    for changed in surrogates(request_body):
        answer = await client.post(path, content=json.dumps(changed).encode(), headers=DECLARED)
        assert_problem(answer, 400, "invalid-json")
