"""What a worker publishes, and that it stays published."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from tokenizers import Tokenizer

from contracts.schema.errors import Code, ServiceError
from contracts.schema.models import ModelCard
from contracts.schema.workers import Heartbeat
from contracts.state import keys
from contracts.state.presence import heartbeats
from tests.worker.client import Client, soon
from worker import presence
from worker.presence import LIFE_SECONDS, beat_forever, published_card, read_offers
from worker.settings import WorkerSettings


@asynccontextmanager
async def beating(client: Client, settings: WorkerSettings) -> AsyncIterator[None]:
    offers = read_offers(settings.models, settings.default)
    task = asyncio.create_task(
        beat_forever(client.redis, "run", offers, lambda: Heartbeat(name="tester", device="cpu", models=["tiny"]))
    )
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def there(client: Client, key: str) -> Callable[[], object]:
    return lambda: client.redis.exists(key)


async def test_a_heartbeat_tells_what_the_worker_serves_and_ends_with_it(client: Client, settings: WorkerSettings) -> None:
    async with beating(client, settings):
        await soon(there(client, keys.worker("tester")))
        beat = json.loads(await client.redis.get(keys.worker("tester")))
        assert (beat["name"], beat["device"], beat["models"]) == ("tester", "cpu", ["tiny"])
        assert 0 < await client.redis.ttl(keys.worker("tester")) <= LIFE_SECONDS


def test_a_worker_that_misses_a_beat_or_two_is_alive_still() -> None:
    assert presence.LIFE_SECONDS > 3 * presence.BEAT_SECONDS


async def test_models_are_published_once_and_a_newer_workers_cards_stay(
    client: Client, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "BEAT_SECONDS", 0.05)
    async with beating(client, settings):
        await soon(there(client, keys.worker("tester")))
        await client.redis.hset(keys.MODELS, "tiny", "newer")
        for _ in range(2):
            await client.redis.delete(keys.worker("tester"))
            await soon(there(client, keys.worker("tester")))
        assert await client.redis.hget(keys.MODELS, "tiny") == b"newer"


async def test_a_redis_that_was_emptied_is_told_again(
    client: Client, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "BEAT_SECONDS", 0.05)
    async with beating(client, settings):
        await soon(there(client, keys.MODELS))
        await client.redis.flushall()
        for key in (keys.MODELS, keys.TOKENIZERS, keys.worker("tester")):
            await soon(there(client, key))


async def test_a_card_and_a_vocabulary_are_published_and_read_as_they_are(client: Client, settings: WorkerSettings) -> None:
    async with beating(client, settings):
        await soon(there(client, keys.MODELS))
        card = await published_card(client.redis, "tiny")
        can = {
            "can": ["image", "mask", "negative_prompt", "emphasis", "queries", "confidence", "causal", "aggregation", "clip_skip"]
        }
        assert card == ModelCard.model_validate(client.card("tiny").model_dump() | can)
        vocabulary = Tokenizer.from_str((await client.redis.hget(keys.TOKENIZERS, "tiny")).decode())
    assert vocabulary.encode("cat " * 200).ids[1:-1] == [vocabulary.token_to_id("cat</w>")] * 200  # neither cut nor padded
    with pytest.raises(ServiceError, match="no worker serves a model 'huge'") as caught:
        await published_card(client.redis, "huge")
    assert (caught.value.code, caught.value.field) == (Code.UNKNOWN_MODEL, "model")


async def test_a_worker_whose_models_cannot_be_published_at_first_tries_again(
    client: Client, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(presence, "BEAT_SECONDS", 0.05)
    await client.redis.set(keys.MODELS, "no hash")
    async with beating(client, settings):
        await soon(lambda: asyncio.sleep(0.01, "the heartbeat does not reach Redis" in caplog.text))
        assert not await client.redis.exists(keys.worker("tester"))
        await client.redis.delete(keys.MODELS)
        await soon(there(client, keys.worker("tester")))
        assert await client.redis.hkeys(keys.MODELS) == [b"tiny"]


async def test_a_heartbeat_that_cannot_be_read_is_passed_over_and_not_quoted(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow(Redis):
        async def mget(self, *names: Any) -> Any:
            await self.delete(keys.worker("late"))  # it ends between two commands
            return await super().mget(*names)

    async with Slow.from_url(redis_url) as redis:
        await redis.set(keys.worker("late"), Heartbeat(name="late", device="cpu", models=[]).model_dump_json())
        assert await heartbeats(redis) == []
        assert not caplog.text
        await redis.set(keys.worker("odd"), '{"name": "odd", "models": "secret"}')
        assert await heartbeats(redis) == []
    assert "a heartbeat cannot be read" in caplog.text
    assert "secret" not in caplog.text
    assert "https://" not in caplog.text


def test_only_the_default_model_is_marked_as_such(settings: WorkerSettings) -> None:
    source = settings.models["tiny"]
    offers = read_offers({"a": source, "b": source}, "b")
    assert [(offer.card.name, offer.card.default) for offer in offers] == [("a", False), ("b", True)]
