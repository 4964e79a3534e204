"""Workers on hosts of their own, with Redis and S3 on another: a host is cut off, comes back, and becomes slow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from redis.asyncio import Redis

from contracts.state import keys
from contracts.state.presence import heartbeats
from contracts.state.store import ArtifactStore
from proofs import jobs
from proofs.chaos.scene import BUCKET, S3, bucket
from proofs.proxy import Proxy
from proofs.stage import Stage, ready, stage, tiny_models
from proofs.stub import SECONDS
from tests.hosts import Host, host, possible

REDELIVERY = 3  # seconds
DEVICE = 5  # seconds of each job, so that its holder is known long before its end


@dataclass
class Hosts:
    """A gateway here, and two hosts with a worker each."""

    client: httpx2.AsyncClient
    redis: Redis
    store: ArtifactStore
    hosts: dict[str, Host]

    async def submit(self, number: int) -> str:
        path, body = jobs.generate(number)
        return (await self.client.post(path, json=body)).raise_for_status().json()["id"]

    async def record(self, job_id: str) -> dict[str, Any]:
        return (await self.client.get(f"/v1/jobs/{job_id}")).raise_for_status().json()

    async def when(self, job_id: str, *states: str) -> dict[str, Any]:
        async with asyncio.timeout(90):
            while (found := await self.record(job_id))["state"] not in states:
                await asyncio.sleep(0.1)
        return found

    async def holder(self, job_id: str) -> Host:
        """The host whose worker says that it has a job."""
        async with asyncio.timeout(30):
            while True:
                for beat in await heartbeats(self.redis):
                    if job_id in {held.id for held in beat.jobs}:
                        return self.hosts[beat.name]
                await asyncio.sleep(0.1)

    async def alive(self, name: str) -> None:
        async with asyncio.timeout(90):
            while not await self.redis.exists(keys.worker(name)):
                await asyncio.sleep(0.1)


async def started(stack: AsyncExitStack, service: Stage, each: Host, s3: str) -> None:
    """Start a worker on a host, which reaches Redis and S3 by its cable alone."""
    redis = await stack.enter_async_context(Proxy.open(service.socket, host=each.here))
    store = await stack.enter_async_context(Proxy.open(("127.0.0.1", urlsplit(s3).port or 0), host=each.here))
    ways = {
        "OVAM_REDIS_URL": f"redis://{each.here}:{redis.port}/0",
        "AWS_ENDPOINT_URL": f"http://{each.here}:{store.port}",
    }
    command = each.command("-m", "proofs.stub")
    service.worker(each.name, command, **ways, OVAM_REDELIVERY_SECONDS=str(REDELIVERY), **{SECONDS: str(DEVICE)})


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[Hosts]:
    if why := possible():
        pytest.skip(why)
    async with AsyncExitStack() as stack:
        _, s3 = await bucket(stack, tmp_path / "logs")
        settings = S3 | {"OVAM_STORE_URL": f"s3://{BUCKET}/prefix", "AWS_ENDPOINT_URL": s3}
        models = await asyncio.to_thread(tiny_models, tmp_path / "model")
        service = stack.enter_context(stage(tmp_path / "data", tmp_path / "logs", OVAM_MODELS=models, **settings))
        redis = await stack.enter_async_context(Redis.from_url(service.redis_url))
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            store = ArtifactStore.at(settings["OVAM_STORE_URL"])
        _, url = service.gateway("gateway")
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, timeout=20))
        two = {each.name: each for each in (stack.enter_context(host(1)), stack.enter_context(host(2)))}
        found = Hosts(client, redis, store, two)
        for each in two.values():
            await started(stack, service, each, s3)
        await ready(url)
        for name in two:
            await found.alive(name)
        yield found


@pytest.mark.e2e
@pytest.mark.timeout(300)
async def test_a_host_that_is_cut_off_loses_its_job_to_another_and_works_again_when_it_returns(hosts: Hosts) -> None:
    job_id = await hosts.submit(1)
    lost = await hosts.holder(job_id)
    lost.cut_off()
    record = await hosts.when(job_id, "succeeded", "failed")
    assert (record["state"], record["attempt"]) == ("succeeded", 2)
    lost.returned()
    await hosts.alive(lost.name)
    lost.slow()
    again = [await hosts.submit(number) for number in range(2, 4)]
    ended = [await hosts.when(each, "succeeded", "failed") for each in again]
    assert [each["state"] for each in ended] == ["succeeded"] * len(again)
    assert [each["attempt"] for each in ended] == [1] * len(again), "slow is not dead"
    assert await hosts.record(job_id) == record, "what the other host did counts no more"
    files = [key async for key in hosts.store.keys_below(keys.job_folder(job_id))]
    assert {key.split("/")[2] for key in files} == {"2"}
