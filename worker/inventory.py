"""How much the artifact store holds: counted by one worker now and then, and published for the gateways' metrics."""

import asyncio
import json
import logging

import obstore
from redis.exceptions import RedisError

from contracts.state import keys
from worker.resources import Resources

EVERY_SECONDS = 300  # a listing of S3 costs a request for each 1,000 objects
TURN = "ovam:inventory-turn"  # string with a short life: one worker at a time counts

log = logging.getLogger(__name__)


async def count_forever(resources: Resources) -> None:
    """Count now and then; what fails is tried again the next time."""
    while True:
        try:
            if await resources.redis.set(TURN, resources.settings.worker_name, nx=True, ex=EVERY_SECONDS):
                await resources.redis.set(keys.INVENTORY, json.dumps(await counted(resources)), ex=3 * EVERY_SECONDS)
        except RedisError as error:
            log.warning("the inventory of the store is not published: %s", error)
        except Exception:
            log.exception("the store cannot be counted")
        await asyncio.sleep(EVERY_SECONDS)


async def counted(resources: Resources) -> dict[str, int]:
    """How many objects the store holds, and how many bytes."""
    objects = size = 0
    async for chunk in obstore.list(resources.store.store):
        objects += len(chunk)
        size += sum(item["size"] for item in chunk)
    return {"objects": objects, "bytes": size}
