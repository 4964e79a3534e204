"""A worker as a `with`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from worker.app import opened, prepare, serve
from worker.resources import Resources
from worker.settings import WorkerSettings


@asynccontextmanager
async def running(settings: WorkerSettings, **changed: Any) -> AsyncIterator[Resources]:
    stopping = asyncio.Event()
    async with opened(settings) as own:
        resources = replace(own, **changed)
        await prepare(resources)
        serving = asyncio.create_task(serve(resources, stopping))
        try:
            yield resources
        finally:
            stopping.set()
            await serving
