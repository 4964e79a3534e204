"""What a worker publishes for the gateways: that it is alive, and which models it serves."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

import diffusers
from diffusers import UNet2DConditionModel
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.schema.adapters import AdapterKind
from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Keep
from contracts.schema.models import UNETS, Ability, ModelCard
from contracts.schema.workers import Heartbeat
from contracts.settings import BadSettingsError
from contracts.state import keys
from worker.adapters import AdapterFile, UnusableAdapterError, misfit, read_adapter
from worker.cards import read_card, read_index, read_vocabulary, text_widths, without_weights
from worker.transformer_cards import part_of

BEAT_SECONDS = 2.0
NO_ADAPTERS: Mapping[str, str] = MappingProxyType({})
ALWAYS: tuple[Ability, ...] = ("image", "mask", "negative_prompt", "emphasis", "queries", "confidence", "causal", "aggregation")
LIFE_SECONDS = 10  # a worker that is silent for longer is gone

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """What gateways need of a model: its card, and its vocabulary to check prompts with."""

    card: ModelCard
    vocabulary: str


def read_offers(
    sources: Mapping[str, str],
    default: str,
    keep: Keep = "replay",
    clip: str | None = None,
    adapters: Mapping[str, str] = NO_ADAPTERS,
) -> list[Offer]:
    """Describe every model whose configuration can be read, what is kept of its images by default, CLIP and adapters beside it.

    BadSettingsError when the default model's cannot.
    """
    offers = []
    for name, source in sources.items():
        try:
            card = read_card(name, source, default=name == default)
            kept: Keep = "replay" if "queries" in card.cannot else keep
            more = offered(adapters, card) | {"default_keep": kept, "clip": clip}
            offers.append(Offer(card.model_copy(update=more), read_vocabulary(source)))
        except Exception as error:  # whatever is wrong with one model, the others are offered
            reason = str(error) if isinstance(error, ServiceError) else f"model {name!r}: {error}"
            if name == default:
                raise BadSettingsError(f"OVAM_MODELS: {reason}") from error
            log.warning("not offered: %s", reason)
    return offers


def offered(adapters: Mapping[str, str], card: ModelCard) -> dict[str, Any]:
    """Say what a model can do, with which adapters, and of the others why not."""
    model, refused = card.source, {*card.cannot}
    fitting: list[AdapterFile] = []
    others: dict[str, str] = {}
    unet, widths = None, list[int]()
    if adapters and card.family in UNETS:
        unet, widths = without_weights(UNet2DConditionModel, model, "unet"), text_widths(model)
    elif adapters and "lora" not in refused:
        unet = part_of(model, read_index(model), "transformer", diffusers)
    for name, source in adapters.items():
        try:
            adapter = read_adapter(name, source)
            reason = card.cannot[adapter.kind] if adapter.kind in refused else misfit(adapter, unet, widths)
        except UnusableAdapterError as error:
            adapter, reason = None, str(error)
        if adapter is None or reason is not None:
            others[name] = reason or ""
            log.warning("adapter %s is not offered with the model of %s: %s", name, model, reason)
        else:
            fitting.append(adapter)
    kinds = {each.kind for each in fitting}
    always = [each for each in ALWAYS if each not in card.cannot]
    can = [*always, *(["clip_skip"] if card.max_clip_skip else []), *(each for each in get_args(AdapterKind) if each in kinds)]
    return {"can": can, "adapters": [each.card() for each in fitting], "other_adapters": others}


async def beat_forever(redis: Redis, holder: str, offers: list[Offer], now: Callable[[], Heartbeat]) -> None:
    """Publish models and, again and again, what the worker says of itself; the models again to a Redis that was emptied.

    It is published twice: by its name for people, and by `holder`, which is this run of it, for other workers.
    """
    published = False
    while True:
        try:
            if not published or not await redis.exists(keys.MODELS):
                await publish(redis, offers)
                published = True
            beat = now()
            async with redis.pipeline(transaction=False) as pipe:
                for key in (keys.worker(beat.name), keys.run(holder)):
                    pipe.set(key, beat.model_dump_json(), ex=LIFE_SECONDS)
                await pipe.execute()
        except RedisError:
            log.warning("the heartbeat does not reach Redis", exc_info=True)
        await asyncio.sleep(BEAT_SECONDS)


async def publish(redis: Redis, offers: list[Offer]) -> None:
    """Write the cards and vocabularies, each pair at once."""
    for offer in offers:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.TOKENIZERS, offer.card.name, offer.vocabulary)
            pipe.hset(keys.MODELS, offer.card.name, offer.card.model_dump_json())
            await pipe.execute()


async def published_card(redis: Redis, name: str) -> ModelCard:
    """Return a model's card without loading the model. ServiceError: unknown-model."""
    card = await redis.hget(keys.MODELS, name)
    if card is None:
        raise ServiceError(Code.UNKNOWN_MODEL, f"no worker serves a model {name!r}", field="model", value=name)
    return ModelCard.model_validate_json(card)
