"""What a data set has in the artifact store: its prompts, its entries, its images and masks."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from contracts.schema.datasets import DatasetPrompt, DatasetRecord, Entry
from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import Schema
from contracts.state import keys
from contracts.state.datasets import SEGMENT
from contracts.state.store import ArtifactStore

PROMPTS = 1024  # in an object
AT_ONCE = 8  # objects that are written

S = TypeVar("S", bound=Schema)


async def write_prompts(store: ArtifactStore, dataset_id: str, prompts: Sequence[DatasetPrompt]) -> None:
    """Store the prompts of a data set."""
    for start in range(0, len(prompts), AT_ONCE * PROMPTS):
        writing = []
        for first in range(start, min(start + AT_ONCE * PROMPTS, len(prompts)), PROMPTS):
            data = await asyncio.to_thread(lines_of, prompts[first : first + PROMPTS])
            writing.append(store.put(keys.dataset_prompts(dataset_id, first // PROMPTS), data))
        await asyncio.gather(*writing)


async def read_prompts(store: ArtifactStore, dataset_id: str, segment: int) -> list[DatasetPrompt]:
    """Prompts 1024 n to 1024 n + 1023."""
    return await read(store, keys.dataset_prompts(dataset_id, segment), DatasetPrompt)


async def entries(store: ArtifactStore, record: DatasetRecord, *, final: bool = False) -> AsyncIterator[list[Entry]]:
    """The entries of a data set, segment by segment: what became of each image, or `final` what of it in the end."""
    for segment in range(segments_of(record)):
        yield await read(store, keys.dataset_entries(record.id, segment, final=final), Entry)


async def write_entries(
    store: ArtifactStore, dataset_id: str, segment: int, found: Sequence[Entry | str], *, final: bool = False
) -> None:
    """Store a segment."""
    await store.put(keys.dataset_entries(dataset_id, segment, final=final), lines_of(found))


async def read(store: ArtifactStore, key: str, schema: type[S]) -> list[S]:
    """An object with JSON in each line. ServiceError (store-unavailable) when it is gone."""
    data = await store.get(key)
    if data is None:
        raise ServiceError(Code.STORE_UNAVAILABLE, f"{key} is gone from the artifact store")
    return [schema.model_validate_json(line) for line in data.split(b"\n") if line]


def lines_of(found: Sequence[Schema | str]) -> bytes:
    """JSON in lines."""
    lines = [each if isinstance(each, str) else each.model_dump_json(exclude_defaults=True) for each in found]
    return "".join(f"{line}\n" for line in lines).encode()


def segments_of(record: DatasetRecord) -> int:
    """How many segments a data set has."""
    return -(-record.counts.entries // SEGMENT)


def numbers_in(record: DatasetRecord, segment: int) -> range:
    """The numbers of the entries in a segment."""
    return range(segment * SEGMENT, min((segment + 1) * SEGMENT, record.counts.entries))
