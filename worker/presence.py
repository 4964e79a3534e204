"""What a worker tells the gateway of itself: that it lives, which models it serves, and which methods it knows."""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts import keys
from contracts.errors import Code, ServiceError
from contracts.jobs import utc_now
from contracts.models import ModelCard
from worker.cards import read_card, read_vocabulary
from worker.questions import method_cards

BEAT_SECONDS = 2.0
LIFE_SECONDS = 10  # a worker that is silent for longer is gone

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """A model and its vocabulary, as gateways need them."""

    card: ModelCard
    vocabulary: str


def read_offers(sources: Mapping[str, str], default: str) -> list[Offer]:
    """Describe every model whose configuration can be read."""
    offers = []
    for name, source in sources.items():
        try:
            offers.append(Offer(read_card(name, source, default=name == default), read_vocabulary(source)))
        except Exception as error:  # noqa: BLE001  # whatever is wrong with one model, the others are offered
            log.warning("model %s cannot be read from %s and is not offered: %s", name, source, error)
    return offers


async def beat_forever(redis: Redis, name: str, device: str, offers: list[Offer]) -> None:
    """Publish methods, models and the heartbeat; a Redis that was emptied is told again."""
    beat = json.dumps({
        "name": name,
        "device": device,
        "models": [offer.card.name for offer in offers],
        "since": utc_now().isoformat(),
    })  # fmt: skip
    await publish(redis, offers)
    while True:
        try:
            if not await redis.exists(keys.MODELS):
                await publish(redis, offers)
            await redis.set(keys.worker(name), beat, ex=LIFE_SECONDS)
        except RedisError:
            log.warning("the heartbeat does not reach Redis", exc_info=True)
        await asyncio.sleep(BEAT_SECONDS)


async def publish(redis: Redis, offers: list[Offer]) -> None:
    """Write the methods, then the cards and vocabularies, each pair at once."""
    await redis.hset(keys.METHODS, mapping={name: card.model_dump_json() for name, card in method_cards().items()})
    for offer in offers:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.TOKENIZERS, offer.card.name, offer.vocabulary)
            pipe.hset(keys.MODELS, offer.card.name, offer.card.model_dump_json())
            await pipe.execute()


async def offered(redis: Redis, name: str) -> ModelCard:
    """The card of a model, as it was published: to know it, it need not be loaded. ServiceError: unknown-model."""
    card = await redis.hget(keys.MODELS, name)
    if card is None:
        raise ServiceError(Code.UNKNOWN_MODEL, f"no worker serves a model {name!r}", field="model", value=name)
    return ModelCard.model_validate_json(card)
