"""How fast each lane moves: the seconds between two claims, measured while jobs wait in it, so that idle times do not count."""

import time

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from contracts.state import keys
from contracts.state.keys import text

WEIGHT = 0.2  # of the newest interval
FRESH_SECONDS = 2.0

# `at` is set while somebody waits: only then is the time until the next claim the lane's own.
NOTE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local lane = ARGV[1]
local last, before = unpack(redis.call('HMGET', KEYS[1], lane .. ':at', lane .. ':seconds'))
if last then
  local seconds = now - tonumber(last)
  if before then seconds = tonumber(before) + tonumber(ARGV[2]) * (seconds - tonumber(before)) end
  redis.call('HSET', KEYS[1], lane .. ':seconds', string.format('%.6f', seconds))
end
if redis.call('ZCARD', KEYS[2]) > 0 then
  redis.call('HSET', KEYS[1], lane .. ':at', string.format('%.6f', now))
else
  redis.call('HDEL', KEYS[1], lane .. ':at')
end
"""


def note(pipe: Pipeline, lane: str) -> None:
    """Queue the command that notes that a job of a lane was claimed."""
    pipe.eval(NOTE, 2, keys.RATES, keys.waiting(lane), lane, str(WEIGHT))


class Rates:
    """The rates as they were a moment ago: every submission asks for one."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._read_at = float("-inf")
        self._rates: dict[str, float] = {}

    async def seconds(self, lane: str) -> float | None:
        """Seconds between two claims while jobs wait; None before that was the case."""
        if time.monotonic() - self._read_at > FRESH_SECONDS:
            found = await self.redis.hgetall(keys.RATES)
            self._rates = {text(field): float(value) for field, value in found.items()}
            self._read_at = time.monotonic()
        return self._rates.get(f"{lane}:seconds")
