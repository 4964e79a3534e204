"""Artifacts by key: local folder, memory or S3, through one API (obstore).

An attempt at a job writes its files under its own folder and a manifest last; without the manifest nothing of it counts.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import obstore
from obstore.store import ObjectStore, from_url
from pydantic import TypeAdapter

from contracts.schema.fields import Artifact
from contracts.state.keys import attempt_folder

CONCURRENCY = 8  # requests at once; obstore itself sets no limit
MANIFEST = "manifest.json"
MANIFEST_TYPE = TypeAdapter(list[Artifact])


@dataclass(frozen=True)
class File:
    """A file to be written: its name within the job, its type and its bytes."""

    name: str
    media_type: str
    data: bytes


class ArtifactStore:
    """Objects under a URL: `file:///...`, `memory:///` or `s3://bucket/prefix`."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.slots = asyncio.Semaphore(CONCURRENCY)

    @staticmethod
    def at(url: str) -> "ArtifactStore":
        """The store at a URL; S3 credentials and endpoint come from the usual AWS_* variables."""
        if url.startswith("file://"):
            return ArtifactStore(from_url(url, mkdir=True))
        return ArtifactStore(from_url(url))

    async def put(self, key: str, data: bytes) -> None:
        """Write an object whole; a reader sees all of it or none."""
        async with self.slots:
            await obstore.put_async(self.store, key, data)

    async def get(self, key: str) -> bytes | None:
        """An object's bytes, or None if there is none."""
        async with self.slots:
            try:
                answer = await obstore.get_async(self.store, key)
                return bytes(await answer.bytes_async())
            except FileNotFoundError:
                return None

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        """The bytes [start, end) of an object."""
        async with self.slots:
            return bytes(await obstore.get_range_async(self.store, key, start=start, end=end))

    async def delete(self, key: str) -> None:
        """Delete an object, if there is one."""
        async with self.slots:
            with contextlib.suppress(FileNotFoundError):
                await obstore.delete_async(self.store, key)

    async def keys_below(self, folder: str) -> AsyncIterator[str]:
        """The keys below a folder."""
        async for chunk in obstore.list(self.store, prefix=folder):
            for item in chunk:
                yield item["path"]

    async def delete_folder(self, folder: str) -> int:
        """Delete everything below a folder; returns how many objects went."""
        keys = [key async for key in self.keys_below(folder)]
        if keys:
            async with self.slots:
                await obstore.delete_async(self.store, keys)
        return len(keys)

    async def commit(self, job_id: str, attempt: int, files: Sequence[File]) -> dict[str, Artifact]:
        """Write an attempt's files, then its manifest; returns the artifacts by name."""

        async def write(some: Sequence[File]) -> list[Artifact]:
            async with self.slots:
                return await asyncio.to_thread(lambda: [self._write(job_id, attempt, file) for file in some])

        # in threads, because to hash and write a small file takes less time than to switch to another task and back
        written = await asyncio.gather(*(write(files[start::CONCURRENCY]) for start in range(min(CONCURRENCY, len(files)))))
        artifacts = {artifact.name: artifact for some in written for artifact in some}
        await self.seal(job_id, attempt, [artifacts[file.name] for file in files])
        return artifacts

    async def write(self, job_id: str, attempt: int, file: File) -> Artifact:
        """Write one of an attempt's files; it does not count before `seal`."""
        async with self.slots:
            return await asyncio.to_thread(self._write, job_id, attempt, file)

    def _write(self, job_id: str, attempt: int, file: File) -> Artifact:
        obstore.put(self.store, f"{attempt_folder(job_id, attempt)}/{file.name}", file.data)
        return described(job_id, file)

    async def seal(self, job_id: str, attempt: int, artifacts: Sequence[Artifact]) -> None:
        """Write the manifest: all that the attempt wrote counts."""
        await self.put(f"{attempt_folder(job_id, attempt)}/{MANIFEST}", MANIFEST_TYPE.dump_json([*artifacts]))

    async def manifest(self, job_id: str, attempt: int) -> list[Artifact]:
        """What an attempt wrote; empty if it never finished."""
        data = await self.get(f"{attempt_folder(job_id, attempt)}/{MANIFEST}")
        return [] if data is None else MANIFEST_TYPE.validate_json(data)


def described(job_id: str, file: File) -> Artifact:
    """The artifact that a file becomes."""
    return Artifact(
        name=file.name,
        media_type=file.media_type,
        size=len(file.data),
        sha256=hashlib.sha256(file.data).hexdigest(),
        url=f"/v1/jobs/{job_id}/artifacts/{file.name}",
    )
