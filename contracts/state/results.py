"""Results too large for Redis, with many outlines and regions: they are kept in the artifact store, and records stay small."""

import asyncio
from typing import TypeGuard

from pydantic import TypeAdapter

from contracts.schema.attribute import AttributeResult
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import ImagesResult
from contracts.schema.jobs import AnyResult, JobRecord, State, StoredResult
from contracts.state import keys
from contracts.state.store import ArtifactStore
from contracts.state.usage import files_of

ANY_RESULT: TypeAdapter[AnyResult] = TypeAdapter(AnyResult)
LARGE = 2**16  # bytes
MOST = 2**23  # bytes: what a gateway reads and sends as one answer


async def put_aside(
    result: AnyResult | None, store: ArtifactStore, job_id: str, attempt: int
) -> tuple[AnyResult | None, StoredResult | None]:
    """Store a large result; returns what its record holds instead. ServiceError (result-too-large) for a far too large one.

    Of images, their segments alone are put aside: what is kept of them stays in the record. Other kinds of results have no part
    that grows with what is in an image.
    """
    if not isinstance(result, AttributeResult) and not has_segments(result):
        return result, None
    data = (await asyncio.to_thread(result.model_dump_json)).encode()
    if len(data) <= LARGE:
        return result, None
    if len(data) > MOST:
        detail = (
            f"the result would be {len(data)} bytes of outlines and regions; allowed: {MOST}. Ask for fewer targets, "
            "for less of `instances`, or for tidier masks (`minimum_area`)"
        )
        targets = result.segments if isinstance(result, AttributeResult) else result.images[0].segments
        raise ServiceError(Code.RESULT_TOO_LARGE, detail, field="targets", value=len(targets))
    await store.put(keys.result(job_id, attempt), data)
    return without_segments(result), StoredResult(size=len(data), files=files_of(result))


def has_segments(result: AnyResult | None) -> TypeGuard[ImagesResult]:
    """Whether a result is of images with segments."""
    return isinstance(result, ImagesResult) and any(image.segments for image in result.images)


def without_segments(result: AttributeResult | ImagesResult) -> ImagesResult | None:
    """What a record holds of a result that is put aside."""
    if isinstance(result, AttributeResult):
        return None
    plain = [image.model_copy(update={"segments": [], "semantic": None}) for image in result.images]
    return result.model_copy(update={"images": plain})


async def with_result(record: JobRecord, store: ArtifactStore) -> JobRecord:
    """A record with its result, wherever that is kept."""
    if record.stored_result is None or record.state is not State.SUCCEEDED:
        return record
    data = await store.get(keys.result(record.id, record.attempt))
    if data is None:  # deleted or expired meanwhile
        return record
    return record.model_copy(update={"result": await asyncio.to_thread(ANY_RESULT.validate_json, data)})
