"""Connections to Redis by every URL that the settings allow: one server, or the one that Sentinels name at the moment."""

from typing import Any

from docket._redis_sentinel import OwnedSentinelConnectionPool, is_sentinel_url, parse_sentinel_url
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from contracts.settings import NO_CLUSTER, BadSettingsError, without_secrets

ANSWERS_WITHIN = 5.0  # seconds
OF_SENTINELS = ("socket_timeout", "socket_connect_timeout")  # options that hold for them as well


class SentinelPool(OwnedSentinelConnectionPool, BlockingConnectionPool):
    """Connections to the server that is the master at the moment; who finds none free waits for one."""


def redis_at(url: str, **options: Any) -> Redis:  # noqa: ANN401  # redis-py's own
    """A client of the Redis at a URL. With `max_connections` among the options, who finds none free waits for one."""
    if not is_sentinel_url(url):
        pool = BlockingConnectionPool if "max_connections" in options else ConnectionPool
        return Redis.from_pool(pool.from_url(url, **options))
    asked = parse_sentinel_url(url)
    limits = {name: options[name] for name in OF_SENTINELS if name in options}
    sentinels = Sentinel(asked.sentinels, sentinel_kwargs={**limits, **asked.sentinel_kwargs})
    return Redis.from_pool(SentinelPool(asked.service_name, sentinels, db=asked.db, **{**options, **asked.connection_kwargs}))


async def check_server(url: str, *, must_answer: bool = True) -> None:
    """Raise BadSettingsError for a server that cannot hold jobs, or, if it `must_answer`, for one that does not."""
    try:
        async with redis_at(url, socket_timeout=ANSWERS_WITHIN, socket_connect_timeout=ANSWERS_WITHIN) as redis:
            found = await redis.info("cluster")
    except RedisError as error:
        if must_answer:
            raise BadSettingsError(f"OVAM_REDIS_URL: no Redis answers at {without_secrets(url)}: {error}") from error
        return
    if found.get("cluster_enabled"):
        raise BadSettingsError(f"OVAM_REDIS_URL={without_secrets(url)}: {NO_CLUSTER}")
