"""Requests too large for Redis: a record is kept for a week after its job has expired, and there may be ten thousand of them."""

from pydantic import TypeAdapter

from contracts.schema.errors import Code, ServiceError
from contracts.schema.jobs import AnyJob, JobRecord
from contracts.state import keys
from contracts.state.store import ArtifactStore

LARGE = 2**16  # bytes
ANY_JOB = TypeAdapter(AnyJob)


def split(record: JobRecord) -> tuple[JobRecord, dict[str, bytes]]:
    """Take a large request out of a record: returns the record, and the objects to be stored before it is filed."""
    data = b"" if record.request is None else record.request.model_dump_json().encode()
    if len(data) <= LARGE:
        return record, {}
    return record.changed(request=None), {keys.request(record.id): data}


async def request_of(record: JobRecord, store: ArtifactStore) -> AnyJob:
    """Return a job's request, from its record or from the store. ServiceError (store-unavailable) when it is in neither."""
    if record.request is not None:
        return record.request
    data = await store.get(keys.request(record.id))
    if data is None:
        raise ServiceError(Code.STORE_UNAVAILABLE, "the job's request is gone from the artifact store")
    return ANY_JOB.validate_json(data)
