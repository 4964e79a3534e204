"""Redis by every URL: a failover is followed, and a cluster is refused by name."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from docket import TaskKey, Worker
from redis import Redis as PlainRedis
from redis.exceptions import RedisError

from contracts.schema.jobs import new_job_id
from contracts.settings import BadSettingsError, CommonSettings, load
from contracts.state import keys
from contracts.state.connections import check_server, redis_at
from contracts.state.dockets import JobDocket, enqueue
from proofs.proxy import Proxy
from tests.conftest import free_port
from tests.sentinels import Sentinels, sentinels, until, valkey


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Sentinels]:
    with sentinels(tmp_path) as found:
        yield found


async def test_a_client_follows_the_master_that_sentinels_name(watched: Sentinels) -> None:
    await check_server(watched.url)
    async with redis_at(watched.url, max_connections=4, timeout=None, socket_timeout=2) as redis:
        await redis.set("before", "kept")
        await redis.execute_command("WAIT", 1, 5000)
        await asyncio.to_thread(watched.kill_master)
        for _ in range(100):
            try:
                await redis.set("after", "written")
            except RedisError:
                await asyncio.sleep(0.1)
            else:
                break
        assert await redis.mget("before", "after") == [b"kept", b"written"]


async def test_a_docket_goes_on_with_the_next_master(watched: Sentinels) -> None:
    ran = list[str]()

    async def run_job(job_id: str = TaskKey()) -> None:
        ran.append(job_id)

    async def surely(job_id: str) -> None:
        """Enqueue a job as the janitor does: again until it has run."""
        for _ in range(300):
            with suppress(RedisError):
                await enqueue(docket, job_id)
            await asyncio.sleep(0.1)
            if job_id in ran:
                return

    async with JobDocket("ovam", watched.url) as docket:
        docket.register(run_job, names=[keys.TASK])
        pause = timedelta(milliseconds=200)
        async with Worker(docket, reconnection_delay=pause, redelivery_timeout=pause, minimum_check_interval=pause) as worker:
            running = asyncio.create_task(worker.run_forever())
            before, after = new_job_id(), new_job_id()
            await surely(before)
            await asyncio.to_thread(watched.kill_master)
            await surely(after)
        await running
    assert {before, after} == set(ran)


@pytest.fixture
async def encrypted(redis_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a Valkey behind TLS, whose authority only `ca.pem` names."""
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with Proxy.open(("127.0.0.1", urlsplit(redis_url).port or 0), tls=tls) as proxy:
        yield f"rediss://localhost:{proxy.port}/0"


async def test_jobs_run_over_tls(encrypted: str, tmp_path: Path) -> None:
    url = f"{encrypted}?ssl_ca_certs={tmp_path / 'ca.pem'}"
    await check_server(url)
    ran = list[str]()

    async def run_job(job_id: str = TaskKey()) -> None:
        ran.append(job_id)

    async with JobDocket("ovam", url) as docket:
        docket.register(run_job, names=[keys.TASK])
        await enqueue(docket, job_id := new_job_id())
        async with Worker(docket) as worker:
            await worker.run_until_finished()
    assert ran == [job_id]


async def test_a_server_that_another_authority_vouches_for_is_refused(encrypted: str, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    for url in (encrypted, f"{encrypted}?ssl_ca_certs={tmp_path / 'other.pem'}"):
        with pytest.raises(BadSettingsError, match=r"OVAM_REDIS_URL: no Redis answers at rediss://.*CERTIFICATE_VERIFY_FAILED"):
            await check_server(url)
    elsewhere = encrypted.replace("localhost", "127.0.0.1")
    with pytest.raises(BadSettingsError, match=r"OVAM_REDIS_URL: no Redis answers at rediss://.*IP address mismatch"):
        await check_server(f"{elsewhere}?ssl_ca_certs={tmp_path / 'ca.pem'}")


async def test_a_master_that_no_sentinel_knows_is_named(watched: Sentinels) -> None:
    with pytest.raises(BadSettingsError, match=r"OVAM_REDIS_URL: no Redis answers at .*/other: No master found for 'other'"):
        await check_server(f"redis+sentinel://127.0.0.1:{watched.port}/other")


async def test_a_cluster_is_refused_though_it_answers(tmp_path: Path) -> None:
    port = free_port()
    bus = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))  # else 10,000 above, where there may be no port
    with valkey("--port", str(port), "--bind", "127.0.0.1", "--save", "", *bus, folder=tmp_path / "node"):
        with PlainRedis(port=port) as redis:
            until(redis.ping)
        for must_answer in (True, False):
            with pytest.raises(
                BadSettingsError, match=rf"OVAM_REDIS_URL=redis://127.0.0.1:{port}: .*cluster.*allowed: one server"
            ):
                await check_server(f"redis://127.0.0.1:{port}", must_answer=must_answer)


async def test_a_server_that_is_away_is_refused_only_where_it_is_needed_at_once() -> None:
    await check_server("redis://127.0.0.1:1", must_answer=False)
    with pytest.raises(BadSettingsError, match=r"no Redis answers at redis://\*\*\*@127.0.0.1:1: "):
        await check_server("redis://user:secret@127.0.0.1:1")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis+cluster://a:7000", "a cluster spreads over its nodes; allowed: one server, or the master that Sentinels name"),
        ("http://a", r"it must start with one of redis://, rediss://, unix://, redis\+sentinel://"),
        ("redis+sentinel://a:26379", "requires a service name"),
        ("redis+sentinel://a:x/ovam", "invalid port in sentinel member 'a:x'"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_its_reason(url: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVAM_REDIS_URL", url)
    with pytest.raises(BadSettingsError, match=rf"OVAM_REDIS_URL=.*: .*{reason}"):
        load(CommonSettings)


@pytest.mark.parametrize("url", ["rediss://a:6380/1?ssl_ca_certs=/ca.pem", "redis+sentinel://user:secret@a,[::1]:26380/ovam/2"])
def test_a_url_that_can_be_used_is_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVAM_REDIS_URL", url)
    assert load(CommonSettings).redis_url == url
