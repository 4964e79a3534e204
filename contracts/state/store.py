"""Artifacts by key: local folder, memory or S3, through one API (obstore).

An attempt at a job writes its files under its own folder and a manifest last; without the manifest nothing of it counts.

Whatever a store does, or fails to do in time, becomes a ServiceError (store-unavailable) in our own words; its words, which name
hosts, keys and buckets, go to the log.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Self, TypeVar
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError, GenericError
from obstore.store import ObjectStore, from_url
from pydantic import TypeAdapter

from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Artifact
from contracts.state.keys import attempt_folder

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

CONCURRENCY = 8  # requests at once; obstore itself sets no limit
PARTS = 4  # of a large object that are sent at once, 5 MB each: all of them within a read's time limit
RETRIES: "RetryConfig" = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
}
READ_TIMEOUT = "10s"
PROBE_WITHIN = 5.0  # seconds
PROBE_BYTES = 2**16  # enough to fail on a disk that is almost full
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 4.0  # seconds between two tries
DELETED_AT_A_TIME = 10_000  # objects, whose names are in memory
MANIFEST = "manifest.json"
MANIFEST_TYPE = TypeAdapter(list[Artifact])

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class File:
    """A file to be written: its name within the job, its type and its bytes."""

    name: str
    media_type: str
    data: bytes


class ArtifactStore:
    """Objects under a URL: `file:///...`, `memory:///` or `s3://bucket/prefix`."""

    def __init__(self, store: ObjectStore, patience: float = 0, check: Callable[[], None] = lambda: None) -> None:
        self.store = store
        self.patience = patience
        """How long (seconds) reads and writes that fail are tried again."""
        self.check = check
        """Called before each new try; what it raises ends the tries."""
        self.slots = asyncio.Semaphore(CONCURRENCY)

    @staticmethod
    def at(url: str) -> "ArtifactStore":
        """The store at a URL; S3 credentials and endpoint come from the usual AWS_* variables."""
        if url.startswith("file://"):
            return ArtifactStore(from_url(url, mkdir=True, automatic_cleanup=True))  # no folder stays without files
        return ArtifactStore(
            from_url(url, client_options=client_options(), retry_config=RETRIES) if is_s3(url) else from_url(url)
        )

    def patiently(self, patience: float, check: Callable[[], None]) -> Self:
        """The same store for somebody who would rather wait than fail."""
        patient = copy(self)
        patient.patience, patient.check = patience, check
        return patient

    async def put(self, key: str, data: bytes) -> None:
        """Write an object whole; a reader sees all of it or none."""

        async def once() -> None:
            with in_our_words():
                await obstore.put_async(self.store, key, data, max_concurrency=PARTS)

        await self._surely(once)

    async def copy(self, source: str, target: str) -> None:
        """Copy an object, inside of the store. ServiceError (unknown-artifact) if there is none."""

        async def once() -> None:
            with in_our_words():
                try:
                    await obstore.copy_async(self.store, source, target, overwrite=True)
                except FileNotFoundError as error:
                    raise ServiceError(Code.UNKNOWN_ARTIFACT, f"{source} is gone from the artifact store") from error

        await self._surely(once)

    async def probe(self) -> None:
        """Write and delete a small object. ServiceError (store-unavailable) when that fails, or takes long."""
        key = f"probe/{uuid4().hex}"
        with in_our_words():
            async with asyncio.timeout(PROBE_WITHIN):
                await obstore.put_async(self.store, key, bytes(PROBE_BYTES))
                await obstore.delete_async(self.store, key)

    async def get(self, key: str) -> bytes | None:
        """An object's bytes, or None if there is none."""

        async def once() -> bytes | None:
            with in_our_words(), contextlib.suppress(FileNotFoundError):
                answer = await obstore.get_async(self.store, key)
                return bytes(await answer.bytes_async())
            return None

        return await self._surely(once)

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        """The bytes [start, end) of an object."""
        async with self.slots:
            with in_our_words():
                return bytes(await obstore.get_range_async(self.store, key, start=start, end=end))

    async def get_start(self, key: str, length: int) -> tuple[bytes, int] | None:
        """An object's first bytes, up to `length`, and how many it has; None if there is none."""

        async def once() -> tuple[bytes, int] | None:
            with in_our_words(), contextlib.suppress(FileNotFoundError):
                try:
                    answer = await obstore.get_async(self.store, key, options={"range": (0, length)})
                    return bytes(await answer.bytes_async()), answer.meta["size"]
                except GenericError:  # an empty object has no range
                    if (await obstore.head_async(self.store, key))["size"]:
                        raise
                    return b"", 0
            return None

        return await self._surely(once)

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Several ranges [start, end) of an object, neighbours by one request. None if there is none."""

        async def once() -> list[bytes] | None:
            with in_our_words(), contextlib.suppress(FileNotFoundError):
                starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
                found = await obstore.get_ranges_async(self.store, key, starts=starts, ends=ends)
                return [bytes(each) for each in found]
            return None

        return await self._surely(once)

    async def delete(self, key: str) -> None:
        """Delete an object, if there is one."""
        async with self.slots:
            with in_our_words(), contextlib.suppress(FileNotFoundError):
                await obstore.delete_async(self.store, key)

    async def keys_below(self, folder: str) -> AsyncIterator[str]:
        """The keys below a folder."""
        with in_our_words():
            async for chunk in obstore.list(self.store, prefix=folder):
                for item in chunk:
                    yield item["path"]

    async def folders_in(self, folder: str) -> AsyncIterator[str]:
        """The folders right below a folder."""
        with in_our_words():
            answer = await obstore.list_with_delimiter_async(self.store, prefix=f"{folder}/")
        for prefix in answer["common_prefixes"]:
            yield prefix.rstrip("/")

    async def delete_folder(self, folder: str) -> int:
        """Delete everything below a folder; returns how many objects went."""
        gone = 0
        while some := await self._some_below(folder):
            async with self.slots:
                with in_our_words():
                    await obstore.delete_async(self.store, some)
            gone += len(some)
            if len(some) < DELETED_AT_A_TIME:
                break
        return gone

    async def _some_below(self, folder: str) -> list[str]:
        """The first keys below a folder: of a data set's there may be millions."""
        found = list[str]()
        async for key in self.keys_below(folder):
            found.append(key)
            if len(found) == DELETED_AT_A_TIME:
                break
        return found

    async def remove_empty(self, folder: str) -> None:
        """Remove a folder without files, which an interrupted write has left, and those in it: each goes with its last file."""
        with in_our_words():
            listing = await obstore.list_with_delimiter_async(self.store, prefix=f"{folder}/")
        for below in listing["common_prefixes"]:
            await self.remove_empty(below)
        await self.put(f"{folder}/last", b"")
        await self.delete(f"{folder}/last")

    async def _surely(self, once: Callable[[], Awaitable[T]]) -> T:
        """Do something, again and again while the store fails and there is patience."""
        deadline, pause = time.monotonic() + self.patience, FIRST_PAUSE
        while True:
            try:
                async with self.slots:
                    return await once()
            except ServiceError as error:
                if error.code is not Code.STORE_UNAVAILABLE or time.monotonic() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            self.check()

    async def commit(self, job_id: str, attempt: int, files: Sequence[File]) -> dict[str, Artifact]:
        """Write an attempt's files, then its manifest; returns the artifacts by name."""

        async def write(some: Sequence[File]) -> list[Artifact]:
            return await self._surely(lambda: asyncio.to_thread(lambda: [self._write(job_id, attempt, file) for file in some]))

        # in threads, because to hash and write a small file takes less time than to switch to another task and back
        written = await asyncio.gather(*(write(files[start::CONCURRENCY]) for start in range(min(CONCURRENCY, len(files)))))
        artifacts = {artifact.name: artifact for some in written for artifact in some}
        await self.seal(job_id, attempt, [artifacts[file.name] for file in files])
        return artifacts

    async def write(self, job_id: str, attempt: int, file: File) -> Artifact:
        """Write one of an attempt's files; it does not count before `seal`."""
        return await self._surely(lambda: asyncio.to_thread(self._write, job_id, attempt, file))

    def _write(self, job_id: str, attempt: int, file: File) -> Artifact:
        with in_our_words():
            obstore.put(self.store, f"{attempt_folder(job_id, attempt)}/{file.name}", file.data, max_concurrency=PARTS)
        return described(job_id, file)

    async def seal(self, job_id: str, attempt: int, artifacts: Sequence[Artifact]) -> None:
        """Write the manifest: all that the attempt wrote counts."""
        await self.put(f"{attempt_folder(job_id, attempt)}/{MANIFEST}", MANIFEST_TYPE.dump_json([*artifacts]))

    async def manifest(self, job_id: str, attempt: int) -> list[Artifact]:
        """What an attempt wrote; empty if it never finished."""
        data = await self.get(f"{attempt_folder(job_id, attempt)}/{MANIFEST}")
        return [] if data is None else MANIFEST_TYPE.validate_json(data)


def is_s3(url: str) -> bool:
    """Whether a store is on a network."""
    return url.startswith("s3://")


def client_options() -> "ClientConfig":
    """Time limits for S3. obstore reads AWS_ALLOW_HTTP itself only when it is given no options."""
    return {
        "connect_timeout": "3s",
        "read_timeout": READ_TIMEOUT,  # between two pieces of an answer, so that large objects take as long as they need
        "timeout": "900s",
        "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes"),
    }


@contextlib.contextmanager
def in_our_words() -> Iterator[None]:
    """Turn what a store raises into a ServiceError (store-unavailable). Who asks for what may be missing catches that itself."""
    try:
        yield
    except (BaseError, OSError, TimeoutError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        log.warning("the artifact store: %s", reason)
        raise ServiceError(
            Code.STORE_UNAVAILABLE, "the artifact store did not answer as it should; try again", retry_after=5
        ) from error


def described(job_id: str, file: File) -> Artifact:
    """The artifact that a file becomes."""
    return Artifact(
        name=file.name,
        media_type=file.media_type,
        size=len(file.data),
        sha256=hashlib.sha256(file.data).hexdigest(),
        url=f"/v1/jobs/{job_id}/artifacts/{file.name}",
    )
