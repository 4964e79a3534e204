"""A worker as a `with`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from worker.app import opened, prepare, serve
from worker.resources import Resources
from worker.settings import WorkerSettings


@asynccontextmanager
async def running(settings: WorkerSettings) -> AsyncIterator[Resources]:
    stopping = asyncio.Event()
    async with opened(settings) as resources:
        await prepare(resources)
        serving = asyncio.create_task(serve(resources, stopping))
        try:
            yield resources
        finally:
            stopping.set()
            await serving
