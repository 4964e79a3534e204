"""Results too large for Redis, with many outlines and regions: they are kept in the artifact store, and records stay small."""

import asyncio

from contracts.schema.attribute import AttributeResult
from contracts.schema.errors import Code, ServiceError
from contracts.schema.jobs import AnyResult, JobRecord, State, StoredResult
from contracts.state import keys
from contracts.state.store import ArtifactStore
from contracts.state.usage import artifacts_in

LARGE = 2**16  # bytes
MOST = 2**23  # bytes: what a gateway reads and sends as one answer


async def put_aside(
    result: AnyResult | None, store: ArtifactStore, job_id: str, attempt: int
) -> tuple[AnyResult | None, StoredResult | None]:
    """Store a large result; returns what its record holds instead. ServiceError (result-too-large) for a far too large one.

    Other kinds of results have no part that grows with what is in an image.
    """
    if not isinstance(result, AttributeResult):
        return result, None
    data = (await asyncio.to_thread(result.model_dump_json)).encode()
    if len(data) <= LARGE:
        return result, None
    if len(data) > MOST:
        detail = (
            f"the result would be {len(data)} bytes of outlines and regions; allowed: {MOST}. Ask for fewer targets, "
            "for less of `instances`, or for tidier masks (`minimum_area`)"
        )
        raise ServiceError(Code.RESULT_TOO_LARGE, detail, field="targets", value=len(result.segments))
    await store.put(keys.result(job_id, attempt), data)
    files = {artifact.name: artifact.size for artifact in artifacts_in(result)}
    return None, StoredResult(size=len(data), files=sum(files.values()))


async def with_result(record: JobRecord, store: ArtifactStore) -> JobRecord:
    """A record with its result, wherever that is kept."""
    if record.stored_result is None or record.state is not State.SUCCEEDED:
        return record
    data = await store.get(keys.result(record.id, record.attempt))
    if data is None:  # deleted or expired meanwhile
        return record
    return record.model_copy(update={"result": await asyncio.to_thread(AttributeResult.model_validate_json, data)})
