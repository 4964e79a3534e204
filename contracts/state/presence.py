"""Which workers are alive: each keeps a heartbeat in Redis, which ends soon after it does."""

import logging

from pydantic import ValidationError
from redis.asyncio import Redis

from contracts.schema.workers import Heartbeat
from contracts.state import keys

log = logging.getLogger(__name__)


async def heartbeats(redis: Redis) -> list[Heartbeat]:
    """What the workers that are alive last said of themselves, by name. What cannot be read is passed over."""
    beating = [key async for key in redis.scan_iter(keys.worker("*"), count=1000)]
    found = []
    for data in await redis.mget(beating) if beating else ():
        try:
            if data is not None:
                found.append(Heartbeat.model_validate_json(data))
        except ValidationError as error:
            log.warning("a heartbeat cannot be read: %s", error.errors(include_url=False, include_input=False))
    return sorted(found, key=lambda beat: beat.name)
