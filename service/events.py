"""What happens to jobs, as it happens: the event streams of all jobs that are followed here, read with one connection.

A follower reads what is there already by itself. What comes then is read by `Events.run`, in one command for all jobs, and given
to everybody who follows one. A stream of our own is read with them: an entry in it interrupts the read when a job is added.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.schema.jobs import State
from contracts.state import keys
from contracts.state.datasets import Datasets
from contracts.state.keys import text
from contracts.state.ledger import Ledger

BLOCK = 5.0  # seconds that one read waits, and after which jobs are looked up again: they may be gone
RETRY = 0.5  # seconds until Redis is asked again
START = "0-0"
FINAL = frozenset(state.value for state in State if state.final)  # a data set's are among them
log = structlog.get_logger("ovam.gateway")


@dataclass(frozen=True)
class Event:
    """Something that happened: its place in the stream, its name and its JSON."""

    id: str
    name: str
    data: str

    @property
    def final(self) -> bool:
        """Whether nothing comes after it."""
        return json.loads(self.data)["state"] in FINAL


Listener = asyncio.Queue[Event | None]
"""Events of one follower that were not read by it yet; None: no more will come."""


@dataclass
class Channel:
    """A job that is followed: how far its stream was read, and by whom."""

    place: str
    listeners: set[Listener] = field(default_factory=set)


class Events:
    """The jobs that are followed here. `patient` may be kept waiting, by one read at a time."""

    def __init__(self, redis: Redis, patient: Redis) -> None:
        self.redis = redis
        self.patient = patient
        self.channels: dict[str, Channel] = {}
        self.wake = keys.wake(secrets.token_hex(8))
        self.woken = START
        self.followed = asyncio.Event()
        self.stopped = False

    async def follow(self, job_id: str, after: str = START, records: Ledger | Datasets | None = None) -> AsyncGenerator[Event]:
        """Events after `after`, until the job (or data set, by its `records`) is final or gone, or the gateway stops.

        While Redis is away, the follower waits.
        """
        over = False
        while not over and not self.stopped:
            try:
                record = await (records or Ledger(self.redis)).find(job_id)
                over = record is None or record.state.final  # looked up first: its last event is there then
                for event in await self.read(job_id, after):
                    yield event
                    after = event.id
                    over = over or event.final
                if over:
                    return
                async with aclosing(self.live(job_id, after)) as events:
                    async for event in events:
                        yield event
                        after, over = event.id, event.final
            except RedisError:  # `run` says so, once for everybody
                over = False
                await asyncio.sleep(RETRY)

    async def finished(self, job_id: str, seconds: float) -> None:
        """Return when the job is final or gone, the seconds are over, or the gateway stops."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), aclosing(self.follow(job_id)) as events:
                async for _ in events:
                    pass

    async def live(self, job_id: str, after: str) -> AsyncGenerator[Event]:
        """Events after `after` as they come, until one is final, or the job should be looked up again."""
        known = job_id in self.channels
        with self.listening(job_id, after) as listener:
            if not known:
                with suppress(RedisError):  # it takes no writes, perhaps: the read ends by itself soon
                    await self.interrupt()
            for event in await self.read(job_id, after):  # what came before anybody listened
                listener.put_nowait(event)
            while event := await listener.get():
                if later(event.id, after):
                    yield event
                    after = event.id
                    if event.final:
                        return

    @contextmanager
    def listening(self, job_id: str, after: str) -> Iterator[Listener]:
        """A queue of the job's events; none after `after` is left out if nobody else listens."""
        listener: Listener = asyncio.Queue()
        channel = self.channels.setdefault(job_id, Channel(after))
        channel.listeners.add(listener)
        self.followed.set()
        try:
            yield listener
        finally:
            channel.listeners.discard(listener)
            if not channel.listeners:
                self.channels.pop(job_id, None)

    async def read(self, job_id: str, after: str) -> list[Event]:
        """The events that are there."""
        return [event for _, events in parsed(await self.redis.xread({keys.events(job_id): after})) for event in events]

    async def interrupt(self) -> None:
        """Let the read that is under way begin again, with the jobs that are followed now."""
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.xadd(self.wake, {"": ""}, maxlen=1)
            pipe.expire(self.wake, int(2 * BLOCK))
            await pipe.execute()

    async def run(self) -> None:
        """Read what comes, for ever. While Redis is away, followers wait."""
        clock = asyncio.get_running_loop().time
        looked_up = clock()
        while True:
            await self.followed.wait()
            try:
                await self.receive()
                if clock() - looked_up > BLOCK:
                    await self.look_up()
                    looked_up = clock()
            except (RedisError, OSError) as error:
                log.warning("redis-unavailable", error=type(error).__name__)
                await asyncio.sleep(RETRY)

    async def receive(self) -> None:
        """Read once, and give everybody what is new."""
        streams = {keys.events(job_id): job_id for job_id in self.channels}
        if not streams:
            self.followed.clear()
            return
        places = {name: self.channels[job_id].place for name, job_id in streams.items()}
        for name, events in parsed(await self.patient.xread({**places, self.wake: self.woken}, block=int(BLOCK * 1000))):
            if name == self.wake:
                self.woken = events[-1].id
            elif channel := self.channels.get(streams[name]):
                channel.place = events[-1].id
                for listener in channel.listeners:
                    for event in events:
                        listener.put_nowait(event)

    async def look_up(self) -> None:
        """Tell the followers of jobs that are gone."""
        jobs = [*self.channels]
        async with self.redis.pipeline(transaction=False) as pipe:
            for job_id in jobs:
                pipe.exists(keys.job(job_id), keys.dataset(job_id))
            there = await pipe.execute()
        for job_id, exists in zip(jobs, there, strict=True):
            if not exists:
                self.end(job_id)

    def end(self, job_id: str) -> None:
        """Tell the followers of a job that no more will come."""
        for listener in self.channels[job_id].listeners if job_id in self.channels else ():
            listener.put_nowait(None)

    def stop(self) -> None:
        """Let everybody go who follows or waits: the gateway stops."""
        self.stopped = True
        for job_id in self.channels:
            self.end(job_id)


def parsed(streams: list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]] | None) -> Iterator[tuple[str, list[Event]]]:
    """What XREAD answers, by the name of the stream."""
    for name, entries in streams or ():
        yield text(name), [Event(text(place), text(of.get(b"event", b"")), text(of.get(b"data", b""))) for place, of in entries]


def later(one: str, other: str) -> bool:
    """Whether a place in a stream comes after another."""
    return [*map(int, one.split("-"))] > [*map(int, other.split("-"))]
