"""What the artifact store holds: how many bytes by tier and job, and whether they are as they were written."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import obstore

from contracts.schema.fields import Artifact
from contracts.state.store import ArtifactStore
from ovam.core.tensor_files import Layout, head_size, layout_of
from ovam.errors import TraceFormatError

AT_ONCE = 1 << 26  # bytes of a file that are read at a time
HEAD_AT_ONCE = 1 << 16


@dataclass
class Inventory:
    """Bytes in the store, by tier, and by job and tier."""

    tiers: Counter[str] = field(default_factory=Counter)
    jobs: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


async def inventory(store: ArtifactStore) -> Inventory:
    """Add up the sizes of all objects."""
    found = Inventory()
    async for chunk in obstore.list(store.store):
        for item in chunk:
            tier, job_id = tier_of(item["path"])
            found.tiers[tier] += item["size"]
            if job_id is not None:
                found.jobs[job_id][tier] += item["size"]
    return found


def tier_of(path: str) -> tuple[str, str | None]:
    """What an object is, and whose: a replay, queries, a job's other results, its request and upload, a token, or a data set's.

    >>> tier_of("jobs/0123/1/replay-0.safetensors")
    ('replays', '0123')
    """
    match path.split("/"):
        case ["jobs", job_id, _, name] if name.startswith("replay-"):
            return "replays", job_id
        case ["jobs", job_id, _, name] if name.startswith("trace-"):
            return "queries", job_id
        case ["jobs", job_id, _, _]:
            return "results", job_id
        case ["jobs", job_id, _]:
            return "requests", job_id
        case ["tokens" | "datasets" as tier, *_]:
            return tier, None
        case _:
            return "other", None


async def damages(store: ArtifactStore) -> AsyncIterator[tuple[str, str]]:
    """Read every file that counts, and yield the key of each that is not as it was written, with a sentence about it."""
    async for job_folder in store.folders_in("jobs"):
        async for folder in store.folders_in(job_folder):
            attempt = folder.rpartition("/")[2]
            if not attempt.isdecimal():
                continue
            for artifact in await store.manifest(job_folder.rpartition("/")[2], int(attempt)):
                key = f"{folder}/{artifact.name}"
                for sentence in await damages_of(store, key, artifact):
                    yield key, sentence


async def damages_of(store: ArtifactStore, key: str, artifact: Artifact) -> list[str]:
    """Say what is wrong with a file: of a trace, which tensors."""
    start = await store.get_start(key, HEAD_AT_ONCE)
    if start is None:
        return ["it is missing"]
    if start[1] != artifact.size:
        return [f"it has {start[1]} bytes; {artifact.size} were written"]
    if artifact.name.startswith(("replay-", "trace-")):
        return await _damaged_tensors(store, key, start[0], artifact.size)
    found = hashlib.sha256()
    for begin in range(0, artifact.size, AT_ONCE):
        found.update(await store.get_range(key, begin, min(begin + AT_ONCE, artifact.size)))
    return [] if found.hexdigest() == artifact.sha256 else ["its SHA-256 is another"]


async def _damaged_tensors(store: ArtifactStore, key: str, start: bytes, size: int) -> list[str]:
    """Compare the checksums of a file's tensors, which are read part by part."""
    try:
        head = head_size(start)
        layout = layout_of(start if head <= len(start) else await store.get_range(key, 0, min(head, size)))
    except TraceFormatError as error:
        return [str(error)]
    found: list[str] = []
    for some in _batches(layout):
        parts = await store.get_ranges(key, [layout.places[name].part(number) for name, number in some]) or []
        for (name, number), data in zip(some, parts, strict=False):
            try:
                layout.require_sound(name, data, number)
            except TraceFormatError as error:
                found.append(str(error))
    return found


def _batches(layout: Layout) -> list[list[tuple[str, int]]]:
    """Group the parts of all tensors by what is read at a time."""
    found: list[list[tuple[str, int]]] = [[]]
    size = 0
    for name, place in layout.places.items():
        for number in range(len(place.checksums or (0,))):
            begin, end = place.part(number)
            if found[-1] and size + end - begin > AT_ONCE:
                found.append([])
                size = 0
            found[-1].append((name, number))
            size += end - begin
    return found
