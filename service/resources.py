"""What lives as long as the app: connections to Redis, the dockets, the store."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Annotated, Any, Self

from docket import Docket
from fastapi import Depends, Request
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from contracts.state import keys
from contracts.state.connections import redis_at
from contracts.state.datasets import Datasets
from contracts.state.dockets import JobDocket
from contracts.state.ledger import Ledger
from contracts.state.outbox import Outbox
from contracts.state.paces import Paces
from contracts.state.store import ArtifactStore
from service.access import Client
from service.bodies import Turns
from service.catalog import Catalog
from service.decoding import Decoders
from service.events import BLOCK, Events
from service.queue import Queue
from service.settings import GatewaySettings
from service.stores import PromptStore
from service.validation.lookups import Lookups
from service.webhooks.sender import Sender

ANSWERS_WITHIN = 1.5  # seconds that Redis may take: a request is answered within 2 whatever happens to it
CANCEL_AGAIN_SECONDS = 0.5  # Redis' client swallows a cancel that meets the end of its own timeout
CONNECTIONS = 64  # to Redis, for short commands; a request that finds none free waits for one


@dataclass(frozen=True)
class Resources:
    """Everything that a request may need."""

    settings: GatewaySettings
    redis: Redis
    events: Events
    store: PromptStore
    ledger: Ledger
    catalog: Catalog
    queue: Queue
    lookups: Lookups
    turns: Turns
    dataset_due: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client of this gateway has created or resumed a data set, which then need not wait to be found."""

    @property
    def datasets(self) -> Datasets:
        """The data sets of the tenant whose jobs the ledger shows."""
        return Datasets(self.redis, self.ledger.tenant)

    def seen_by(self, client: Client) -> Self:
        """The same, where other tenants' jobs and tokens do not exist."""
        ledger, catalog = Ledger(self.redis, client.tenant), self.catalog.seen_by(client.tenant)
        lookups = replace(self.lookups, catalog=catalog, ledger=ledger, images={})
        return replace(self, ledger=ledger, catalog=catalog, lookups=lookups, queue=self.queue.used_by(client, ledger))


async def resources_of(request: Request) -> Resources:
    """The app's resources as the request's client sees them: the one place that separates tenants."""
    return request.state.resources.seen_by(request.state.client)


With = Annotated[Resources, Depends(resources_of)]


@asynccontextmanager
async def opened(settings: GatewaySettings) -> AsyncIterator[Resources]:
    """The resources of an app. Redis may be away: requests say so until it is back."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(connection(settings.redis_url, ANSWERS_WITHIN, CONNECTIONS))
        patient = await stack.enter_async_context(connection(settings.redis_url, ANSWERS_WITHIN + BLOCK, 1))
        events = Events(redis, patient)
        await stack.enter_async_context(beside(events.run()))
        if settings.webhooks != "none":
            await stack.enter_async_context(beside(Sender(Outbox(redis), private=settings.webhooks == "any").run()))
        dockets = {name: await stack.enter_async_context(docket(name, settings.redis_url)) for name in keys.DOCKETS}
        ledger, catalog = Ledger(redis), Catalog(redis)
        life = timedelta(seconds=settings.job_ttl_seconds)
        store = PromptStore(ArtifactStore.at(settings.store).store)
        queue = Queue(redis, dockets, store, max_queued=settings.max_queued, job_ttl=life)
        stack.push_async_callback(queue.delivered)
        yield Resources(
            settings=settings,
            redis=redis,
            events=events,
            store=store,
            ledger=ledger,
            catalog=catalog,
            queue=queue,
            lookups=Lookups(settings, catalog, ledger, stack.enter_context(closing(Decoders())), Paces(redis)),
            turns=Turns(),
        )


def connection(url: str, timeout: float, connections: int) -> Redis:
    """A pool of connections; a stale one is replaced once, without delay. Who does not answer in time is not asked again."""
    return redis_at(
        url,
        max_connections=connections,
        timeout=None,  # to wait for: each of them is free again in time
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let something run for as long as the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_AGAIN_SECONDS)
        with suppress(asyncio.CancelledError):
            await task


def docket(name: str, url: str) -> Docket:
    """A docket that knows the workers' task by name only."""
    tasks = JobDocket(name, url)
    tasks.register(run_job, names=[keys.TASK])
    return tasks


async def run_job() -> None:
    """Stand for the workers' task; the gateway never runs it."""
    raise NotImplementedError
