"""What lives as long as the app: connections to Redis, the dockets, the store."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Self

from docket import Docket
from fastapi import Depends, Request
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from contracts.state import keys
from contracts.state.ledger import Ledger
from contracts.state.store import ArtifactStore
from service.access import Client
from service.catalog import Catalog
from service.events import BLOCK
from service.queue import Queue
from service.settings import GatewaySettings
from service.validation.lookups import Lookups

ANSWERS_WITHIN = 5.0  # seconds that Redis may take


@dataclass(frozen=True)
class Resources:
    """Everything that a request may need."""

    settings: GatewaySettings
    redis: Redis
    patient: Redis
    """For reads that wait."""
    store: ArtifactStore
    ledger: Ledger
    catalog: Catalog
    queue: Queue
    lookups: Lookups

    def seen_by(self, client: Client) -> Self:
        """The same, where other tenants' jobs and tokens do not exist."""
        ledger, catalog = Ledger(self.redis, client.tenant), self.catalog.seen_by(client.tenant)
        lookups = replace(self.lookups, catalog=catalog, ledger=ledger)
        return replace(self, ledger=ledger, catalog=catalog, lookups=lookups, queue=self.queue.used_by(client, ledger))


def resources_of(request: Request) -> Resources:
    """The app's resources as the request's client sees them: the one place that separates tenants."""
    return request.state.resources.seen_by(request.state.client)


With = Annotated[Resources, Depends(resources_of)]


@asynccontextmanager
async def opened(settings: GatewaySettings) -> AsyncIterator[Resources]:
    """The resources of an app. Redis may be away: requests say so until it is back."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(connection(settings.redis_url, ANSWERS_WITHIN))
        patient = await stack.enter_async_context(connection(settings.redis_url, ANSWERS_WITHIN + BLOCK))
        dockets = {name: await stack.enter_async_context(docket(name, settings.redis_url)) for name in keys.DOCKETS}
        ledger, catalog = Ledger(redis), Catalog(redis)
        life = timedelta(seconds=settings.job_ttl_seconds)
        store = ArtifactStore.at(settings.store)
        queue = Queue(redis, dockets, store, max_queued=settings.max_queued, job_ttl=life)
        yield Resources(
            settings=settings,
            redis=redis,
            patient=patient,
            store=store,
            ledger=ledger,
            catalog=catalog,
            queue=queue,
            lookups=Lookups(settings, catalog, ledger),
        )


def connection(url: str, timeout: float) -> Redis:
    """A pool of connections; a stale one is replaced once, without delay."""
    return Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=2.0, retry=Retry(NoBackoff(), 1))


def docket(name: str, url: str) -> Docket:
    """A docket that knows the workers' task by name only."""
    tasks = Docket(name, url)
    tasks.register(run_job, names=[keys.TASK])
    return tasks


async def run_job(job_id: str) -> None:
    """Stand for the workers' task; the gateway never runs it."""
    raise NotImplementedError(job_id)
