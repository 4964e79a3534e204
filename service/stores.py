"""The artifact store as a gateway uses it: whatever the store does, a client has its answer in time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.schema.errors import Code, ServiceError
from contracts.state.store import ArtifactStore

ANSWERS_WITHIN = 5.0  # seconds
MOVES_WITHIN = 20.0  # seconds, for as much as an upload or a piece of an artifact
RETRY_AFTER = 5  # seconds
PROBED_WITHIN = 2.0  # seconds: whoever reads metrics waits for it
PROBED_EVERY = 10.0  # seconds, however many read metrics


class PromptStore(ArtifactStore):
    """A store that is given up when it takes too long: ServiceError, store-unavailable."""

    _took_writes = False
    _probed_at = float("-inf")

    async def takes_writes(self) -> bool:
        """Whether it took a write, now or a few seconds ago."""
        if time.monotonic() - self._probed_at > PROBED_EVERY:
            try:
                async with asyncio.timeout(PROBED_WITHIN):
                    await self.probe()
                self._took_writes = True
            except (ServiceError, TimeoutError):
                self._took_writes = False
            self._probed_at = time.monotonic()
        return self._took_writes

    async def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        async with within(MOVES_WITHIN):
            await super().put(key, data)

    async def get(self, key: str) -> bytes | None:
        """Read a small object."""
        async with within(ANSWERS_WITHIN):
            return await super().get(key)

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        """Read a piece."""
        async with within(MOVES_WITHIN):
            return await super().get_range(key, start, end)

    async def delete(self, key: str) -> None:
        """Delete an object."""
        async with within(ANSWERS_WITHIN):
            await super().delete(key)

    async def delete_folder(self, folder: str) -> int:
        """Delete a folder."""
        async with within(MOVES_WITHIN):
            return await super().delete_folder(folder)


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Raise store-unavailable for what takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        detail = f"the artifact store did not answer within {seconds:.0f} seconds; try again"
        raise ServiceError(Code.STORE_UNAVAILABLE, detail, retry_after=RETRY_AFTER) from error
