"""The artifact store as a job uses it: its time is measured, its bytes and its failures are counted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from contracts.schema.fields import Artifact
from contracts.state.store import ArtifactStore, File
from worker.metrics import Metrics
from worker.timing import phase


class TimedStore(ArtifactStore):
    """Passes everything on to another store."""

    def __init__(self, inner: ArtifactStore, metrics: Metrics) -> None:
        super().__init__(inner.store)
        self._inner = inner
        self._metrics = metrics

    async def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        with self._operation("write", len(data)):
            await self._inner.put(key, data)

    async def get(self, key: str) -> bytes | None:
        """Read an object."""
        with self._operation("read"):
            data = await self._inner.get(key)
        self._metrics.store_bytes.labels("read").inc(len(data or b""))
        return data

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        """Read a part of an object."""
        with self._operation("read", end - start):
            return await self._inner.get_range(key, start, end)

    async def get_start(self, key: str, length: int) -> tuple[bytes, int] | None:
        """Read the beginning of an object."""
        with self._operation("read"):
            found = await self._inner.get_start(key, length)
        self._metrics.store_bytes.labels("read").inc(len(found[0]) if found else 0)
        return found

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Read parts of an object."""
        with self._operation("read"):
            found = await self._inner.get_ranges(key, ranges)
        self._metrics.store_bytes.labels("read").inc(sum(map(len, found or ())))
        return found

    async def delete(self, key: str) -> None:
        """Delete an object."""
        with self._operation("delete"):
            await self._inner.delete(key)

    async def delete_folder(self, folder: str) -> int:
        """Delete a folder."""
        with self._operation("delete"):
            return await self._inner.delete_folder(folder)

    async def commit(self, job_id: str, attempt: int, files: Sequence[File]) -> dict[str, Artifact]:
        """Write an attempt's files and its manifest."""
        with self._operation("write", sum(len(file.data) for file in files)):
            return await self._inner.commit(job_id, attempt, files)

    async def write(self, job_id: str, attempt: int, file: File) -> Artifact:
        """Write one of an attempt's files."""
        with self._operation("write", len(file.data)):
            return await self._inner.write(job_id, attempt, file)

    async def seal(self, job_id: str, attempt: int, artifacts: Sequence[Artifact]) -> None:
        """Write an attempt's manifest."""
        with self._operation("write"):
            await self._inner.seal(job_id, attempt, artifacts)

    @contextmanager
    def _operation(self, name: str, size: int = 0) -> Iterator[None]:
        """Measure an operation, and count its bytes once it has succeeded."""
        with phase("store"):
            try:
                yield
            except Exception:
                self._metrics.store_errors.labels(name).inc()
                raise
        if name != "delete":
            self._metrics.store_bytes.labels(name).inc(size)
