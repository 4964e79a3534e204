"""Webhooks, told to a real server by a real gateway: what, when, signed how, and never to whom they may not go."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from contracts.schema.jobs import utc_now
from contracts.schema.webhooks import Delivery
from contracts.state import keys, outbox
from contracts.state.outbox import Outbox
from service.access import needed
from service.app import create_app
from service.settings import GatewaySettings
from service.webhooks import sender, targets
from service.webhooks.sender import Sender
from service.webhooks.targets import PrivateAddressError, is_public, problem_of, resolved
from tests.service.in_test_worker import InTestWorker
from tests.service.serving import assert_problem, client_of

CAR = {"prompt": "a car", "seed": 1}


@dataclass
class Receiver:
    """Somebody's server: what it got, and what it answers."""

    url: str = ""
    answers: list[bytes] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.got.append((headers, body))
        answer = self.answers.pop(0) if self.answers else b"HTTP/1.1 204 No Content\r\n\r\n"
        if answer == b"silence":
            await reader.read()  # until the sender gives up
        else:
            writer.write(answer)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def after(self, count: int) -> list[tuple[dict[str, str], bytes]]:
        """What it got, when it is so much."""
        async with asyncio.timeout(30):
            while len(self.got) < count:
                await asyncio.sleep(0.02)
        return self.got


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?token=1"
    yield receiver
    server.close()


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"webhooks": "any"})


@asynccontextmanager
async def hasty(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Tries come soon after each other."""
    monkeypatch.setattr(outbox, "PAUSES", tuple([timedelta(milliseconds=10)] * 3))
    monkeypatch.setattr(sender, "LOOK_SECONDS", 0.05)
    yield


async def submitted(client: httpx2.AsyncClient, url: str, **headers: str) -> dict[str, Any]:
    answer = await client.post("/v1/generate", json=CAR, headers={"Webhook": url} | headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def settled(redis: Redis) -> None:
    """Nothing is to be told any more."""
    async with asyncio.timeout(30):
        while await redis.zcard(keys.OUTBOX):
            await asyncio.sleep(0.02)


async def test_a_job_that_ended_is_told_once_and_signed(
    client: httpx2.AsyncClient, worker: InTestWorker, receiver: Receiver, redis: Redis
) -> None:
    record = await submitted(client, receiver.url)
    assert record["webhook"] == {"url": receiver.url, "events": ["succeeded", "failed", "canceled"]}
    await worker.end(record["id"])
    ((headers, body),) = await receiver.after(1)
    (secret,) = await Outbox(redis).secrets("")
    told = Webhook(secret).verify(body, headers)
    assert told["type"] == "job.succeeded"
    assert {name: told["data"][name] for name in ("id", "kind", "state", "attempt", "error")} == {
        "id": record["id"],
        "kind": "generate",
        "state": "succeeded",
        "attempt": 1,
        "error": None,
    }
    assert headers["webhook-id"] == f"{record['id']}.1.succeeded"
    with pytest.raises(WebhookVerificationError):
        Webhook(outbox.new_secret()).verify(body, headers)
    await settled(redis)
    await asyncio.sleep(1.5)
    assert len(receiver.got) == 1


async def test_only_the_chosen_states_are_told(client: httpx2.AsyncClient, worker: InTestWorker, receiver: Receiver) -> None:
    running = await submitted(client, receiver.url, **{"Webhook-Events": "running, failed"})
    await worker.begin(running["id"])
    await worker.step(running["id"], 1)
    await worker.step(running["id"], 2)
    await worker.end(running["id"])
    failed = await submitted(client, receiver.url, **{"Webhook-Events": "failed"})
    await worker.fail(failed["id"], "it broke")
    canceled = await submitted(client, receiver.url, **{"Webhook-Events": "canceled"})
    await client.post(f"/v1/jobs/{canceled['id']}/cancel")
    told = [json.loads(body) for _, body in await receiver.after(3)]
    assert {(each["data"]["id"], each["type"]) for each in told} == {
        (running["id"], "job.running"),
        (failed["id"], "job.failed"),
        (canceled["id"], "job.canceled"),
    }
    (error,) = [each["data"]["error"] for each in told if each["type"] == "job.failed"]
    assert (error["code"], error["detail"]) == ("out-of-memory", "it broke")


ERROR = b"HTTP/1.1 500 No\r\n\r\n"
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: /other\r\n\r\n"


@pytest.mark.parametrize("answer", [ERROR, REDIRECT, b"nonsense", b""])
async def test_what_is_not_taken_is_sent_again_the_same(
    settings: GatewaySettings,
    worker: InTestWorker,
    receiver: Receiver,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
) -> None:
    receiver.answers = [answer, answer]
    async with hasty(monkeypatch), client_of(create_app(settings)) as client:
        record = await submitted(client, receiver.url)
        await worker.end(record["id"])
        tries = await receiver.after(3)
        await settled(redis)
    assert len({(headers["webhook-id"], body) for headers, body in tries}) == 1
    assert len(receiver.got) == 3
    assert await Outbox(redis).lost() == []


@pytest.mark.parametrize(("answers", "tries"), [([ERROR] * 9, 4), ([b"HTTP/1.1 410 Gone\r\n\r\n"], 1)])
async def test_what_is_never_taken_is_given_up_and_can_be_replayed(
    settings: GatewaySettings,
    worker: InTestWorker,
    receiver: Receiver,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[bytes],
    tries: int,
) -> None:
    receiver.answers = list(answers)
    async with hasty(monkeypatch), client_of(create_app(settings)) as client:
        record = await submitted(client, receiver.url)
        await worker.end(record["id"])
        await receiver.after(tries)
        await settled(redis)
        (lost,) = await Outbox(redis).lost()
        assert (lost.job_id, lost.tries, lost.problem) == (record["id"], tries, f"answered {answers[0].split()[1].decode()}")
        receiver.answers = []
        await Outbox(redis).replay([lost.id])
        again = await receiver.after(tries + 1)
        await settled(redis)
    assert again[0][0]["webhook-id"] == again[-1][0]["webhook-id"]
    assert await Outbox(redis).lost() == []


async def test_what_is_replayed_goes_behind_what_waits(redis: Redis) -> None:
    now = utc_now()
    told = [Delivery(id=name, tenant="", job_id=name, url="http://a", body="{}", created_at=now) for name in ("lost", "waits")]
    for each in told:
        await redis.set(keys.delivery(each.id), each.model_dump_json())
    await redis.zadd(keys.OUTBOX, {"waits": now.timestamp() * 1000 - 1})
    await Outbox(redis).replay(["lost"])
    assert [each.id for each in await Outbox(redis).waiting()] == ["waits", "lost"]


async def test_the_outbox_survives_a_gateway(
    settings: GatewaySettings, worker: InTestWorker, receiver: Receiver, redis: Redis
) -> None:
    async with client_of(create_app(settings.model_copy(update={"webhooks": "any"}))) as client:
        record = await submitted(client, receiver.url)
    await worker.end(record["id"])  # no gateway is there
    assert await redis.zcard(keys.OUTBOX) == 1
    async with client_of(create_app(settings)):
        await receiver.after(1)


async def test_of_several_gateways_one_sends(
    settings: GatewaySettings, worker: InTestWorker, receiver: Receiver, redis: Redis
) -> None:
    async with client_of(create_app(settings)) as client, client_of(create_app(settings)), client_of(create_app(settings)):
        for _ in range(10):
            record = await submitted(client, receiver.url)
            await worker.end(record["id"])
        await receiver.after(10)
        await settled(redis)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == len(receiver.got) == 10


async def test_a_silent_receiver_keeps_nobody_from_being_told(
    settings: GatewaySettings, worker: InTestWorker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Receiver(answers=[b"silence"] * 50)
    server = await asyncio.start_server(silent.serve, "127.0.0.2", 0)
    url = f"http://127.0.0.2:{server.sockets[0].getsockname()[1]}/"
    async with hasty(monkeypatch), client_of(create_app(settings)) as client:
        for _ in range(20):
            record = await submitted(client, url)
            await worker.end(record["id"])
        record = await submitted(client, receiver.url)
        await worker.end(record["id"])
        await receiver.after(1)
        assert len(silent.got) <= sender.AT_ONCE_TO_A_HOST
    server.close()


async def test_a_secret_is_a_tenants_own_and_the_one_before_signs_for_a_day(redis: Redis) -> None:
    box = Outbox(redis)
    first, other = await box.secrets("a"), await box.secrets("b")
    assert first == await box.secrets("a") != other
    second = await box.rotate("a")
    assert await box.secrets("a") == [second, *first]
    delivery = Delivery(id="1", tenant="a", job_id="j", url="http://example.org/", body="{}", created_at=utc_now())
    headers = {name.decode().lower(): value.decode() for name, value in sender.signed(delivery, await box.secrets("a"))}
    for secret in (second, *first):
        assert Webhook(secret).verify("{}", headers) == {}
    assert 0 < await redis.ttl(keys.secret_before("a")) <= 86_400


async def test_whatever_the_outbox_holds_has_its_time(
    client: httpx2.AsyncClient, worker: InTestWorker, receiver: Receiver, redis: Redis
) -> None:
    record = await submitted(client, receiver.url)
    await worker.end(record["id"])
    await receiver.after(1)
    await settled(redis)
    (name,) = [key async for key in redis.scan_iter("ovam:delivery:*")]
    assert 0 < await redis.ttl(name) <= outbox.KEPT.total_seconds()


PRIVATE = [
    "127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.9.9", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.1", "224.0.0.1",
    "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"]


@pytest.mark.parametrize("address", PRIVATE)
@pytest.mark.usefixtures("worker")
async def test_no_webhook_goes_to_an_address_that_is_not_public(settings: GatewaySettings, address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert not is_public(targets.ipaddress.ip_address(address))
    async with client_of(create_app(settings.model_copy(update={"webhooks": "public"}))) as client:
        answer = await client.post("/v1/generate", json=CAR, headers={"Webhook": f"https://{host}/hook"})
        assert_problem(answer, 422, "invalid-argument", "Webhook")


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(targets.ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/", "file:///etc/passwd", "gopher://example.org:6379/_SET", "//example.org/", "example.org", "http://",
        "http://user@example.org/", "http://user:secret@example.org/", "http://example.org:0/", "http://example.org:99999/",
        "http://example.org/#part", "http://exa mple.org/", "http://ex\u00e4mple.org/", "http://localhost:6379/",
        "http://a.localhost/", "http://LOCALHOST./", f"http://example.org/{'a' * 2048}", "http://[::1", "http://2130706433:x/",
    ],
)  # fmt: skip
def test_what_is_no_url_for_a_webhook_is_refused(url: str) -> None:
    assert problem_of(url, private=False)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "localhost", "ip6-localhost"])
async def test_a_name_that_leads_to_this_machine_is_not_connected_to(host: str) -> None:
    with pytest.raises((PrivateAddressError, socket.gaierror)):
        await resolved(host, 80, private=False)


async def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to(
    redis: Redis, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when it is checked and private afterwards (DNS rebinding)."""
    port = int(receiver.url.split(":")[2].split("/")[0])
    asked: list[str] = []

    async def getaddrinfo(host: str, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) > 1 else "203.0.113.7"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(targets, "is_public", lambda address: str(address) == "203.0.113.7")
    monkeypatch.setitem(sender.LIMITS, "connect", 0.5)
    url = f"http://rebinding.example:{port}/"
    delivery = Delivery(id="1", tenant="", job_id="j", url=url, body="{}", created_at=utc_now())
    problem, for_good = await Sender(Outbox(redis), private=False).tried(delivery)
    assert (asked, for_good) == (["rebinding.example"], False)
    assert problem
    assert receiver.got == []


async def test_a_name_with_a_public_and_a_private_address_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 80)) for each in ("1.1.1.1", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(PrivateAddressError):
        await resolved("mixed.example", 80, private=False)


@pytest.mark.usefixtures("worker")
async def test_a_service_may_send_none(settings: GatewaySettings) -> None:
    async with client_of(create_app(settings.model_copy(update={"webhooks": "none"}))) as client:
        answer = await client.post("/v1/generate", json=CAR, headers={"Webhook": "https://example.org/"})
        assert_problem(answer, 422, "invalid-argument", "Webhook")


@pytest.mark.parametrize("events", ["", "done", "running;failed", "running,,failed", "Running"])
@pytest.mark.usefixtures("worker")
async def test_states_that_do_not_exist_are_refused(client: httpx2.AsyncClient, events: str) -> None:
    headers = {"Webhook": "https://example.org/", "Webhook-Events": events}
    assert_problem(await client.post("/v1/generate", json=CAR, headers=headers), 422, "invalid-request")


async def test_who_stops_sending_waits_for_no_receiver(redis: Redis) -> None:
    own = Sender(Outbox(redis), private=True)
    sending = asyncio.create_task(asyncio.sleep(60))
    own._sending.add(sending)  # to a receiver that does not answer
    running = asyncio.create_task(own.run())
    await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait([running], timeout=5)
    assert running.done()
    assert sending.cancelled()


async def test_the_secret_is_got_and_replaced_over_http(client: httpx2.AsyncClient, redis: Redis) -> None:
    first = await client.get("/v1/webhooks/secret")
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-store")
    assert [first.json()["secret"]] == await Outbox(redis).secrets("")
    second = await client.post("/v1/webhooks/secret")
    assert (second.status_code, second.headers["cache-control"]) == (200, "no-store")
    assert second.json() != first.json()
    assert await Outbox(redis).secrets("") == [second.json()["secret"], first.json()["secret"]]
    assert (await client.get("/v1/webhooks/secret")).json() == second.json()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_key_that_only_reads_does_not_get_the_secret(method: str) -> None:
    assert needed(method, "/v1/webhooks/secret") == "generate"
