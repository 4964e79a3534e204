"""Jobs as sources of images: what must hold of a job before its images are used."""

from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import ImagesResult
from contracts.schema.jobs import JobRecord, State

WITH_IMAGES = ("generate", "image")  # kinds of jobs
RETRY_AFTER = 1  # second, for a job that is not finished


def images_of(record: JobRecord, *, field: str) -> ImagesResult:
    """The result of a job that has images, succeeded and is still there.

    Raises job-expired, wrong-job-kind, job-not-finished or job-not-successful.
    """
    check_alive(record, field=field)
    if record.kind not in WITH_IMAGES:
        detail = f"job {record.id} is of kind {record.kind!r}; allowed: {' or '.join(WITH_IMAGES)}"
        raise ServiceError(Code.WRONG_JOB_KIND, detail, field=field, value=record.id)
    if not record.state.final:
        detail = f"job {record.id} is {record.state}; wait until it has succeeded"
        raise ServiceError(Code.JOB_NOT_FINISHED, detail, field=field, value=record.id, retry_after=RETRY_AFTER)
    if not isinstance(record.result, ImagesResult):
        why = f": {record.error.detail}" if record.error else ""
        detail = f"job {record.id} has {'failed' if record.error else 'been canceled'}{why}"
        raise ServiceError(Code.JOB_NOT_SUCCESSFUL, detail, field=field, value=record.id)
    return record.result


def check_alive(record: JobRecord, *, field: str | None = None) -> None:
    """Raise job-expired for a job whose time is over."""
    if record.state is State.EXPIRED:
        detail = f"job {record.id} expired at {record.expires_at:%Y-%m-%d %H:%M:%S} UTC; its results are gone"
        raise ServiceError(Code.JOB_EXPIRED, detail, field=field, value=record.id)


def check_image(result: ImagesResult, image: int, job_id: str, *, field: str) -> None:
    """Raise image-index-out-of-range unless the job has that image."""
    if image >= len(result.images):
        count = f"{len(result.images)} image{'' if len(result.images) == 1 else 's'}"
        detail = f"job {job_id} has {count}, counted from 0; there is no image {image}"
        raise ServiceError(Code.IMAGE_INDEX, detail, field=field, value=image)
