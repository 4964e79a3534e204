"""Whatever is sent, the answer is one that is documented."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as limits
from redis.asyncio import Redis
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from contracts.state.store import ArtifactStore
from service.app import create_app
from service.integrations import openai_images
from service.settings import GatewaySettings
from tests.service.in_test_worker import InTestWorker, card
from tests.service.serving import served

# What a model allows cannot be said in a schema, and what a schema forbids may be an unknown path.
LEFT_OUT: list[Any] = [negative_data_rejection, positive_data_acceptance]


@pytest.fixture
def url(redis_url: str, store_url: str) -> Iterator[str]:
    """A server in a thread of its own."""
    ready, stop, found = threading.Event(), asyncio.Event(), []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with Redis.from_url(redis_url) as redis:
            await InTestWorker(redis, ArtifactStore.at(store_url)).publish(card())
        async with served(create_app(GatewaySettings(redis_url=redis_url, store_url=store_url))) as client:
            found.append(str(client.base_url))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(20)
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.mark.filterwarnings("default")
def test_whatever_is_sent_the_answer_is_one_that_is_documented(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_images, "LONGEST_WAIT", 0.1)  # nobody draws here
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == 37
    for operation in operations:

        @limits(max_examples=8, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
        @given(operation.as_strategy())
        def probe(case: schemathesis.Case) -> None:
            case.call_and_validate(excluded_checks=LEFT_OUT)

        probe()
