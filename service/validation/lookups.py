"""What checks look things up in, and the checks that several kinds of requests share."""

from dataclasses import dataclass

from contracts.errors import Code, ServiceError
from contracts.generation import GenerateResult
from contracts.jobs import JobRecord, State
from contracts.ledger import Ledger
from contracts.models import ModelCard
from service.catalog import Catalog
from service.settings import GatewaySettings

RETRY_AFTER = 1  # second, for a job that is not finished
WITH_IMAGES = ("generate", "image")  # kinds of jobs


@dataclass(frozen=True)
class Lookups:
    """Limits, models and tokens, jobs."""

    settings: GatewaySettings
    catalog: Catalog
    ledger: Ledger

    async def images_of(self, job_id: str, *, field: str) -> GenerateResult:
        """The result of a job that has images, succeeded and is still there."""
        record = await self.ledger.get(job_id, field=field)
        check_alive(record, field=field)
        if record.kind not in WITH_IMAGES:
            detail = f"job {job_id} is of kind {record.kind!r}; allowed: {' or '.join(WITH_IMAGES)}"
            raise ServiceError(Code.WRONG_JOB_KIND, detail, field=field, value=job_id)
        return successful(record, field=field)


def check_alive(record: JobRecord, *, field: str | None = None) -> None:
    """Raise job-expired for a job whose time is over."""
    if record.state is State.EXPIRED:
        detail = f"job {record.id} expired at {record.expires_at:%Y-%m-%d %H:%M:%S} UTC; its results are gone"
        raise ServiceError(Code.JOB_EXPIRED, detail, field=field, value=record.id)


def successful(record: JobRecord, *, field: str) -> GenerateResult:
    """The result of a record of a generation; a ServiceError without one."""
    if not record.state.final:
        detail = f"job {record.id} is {record.state}; wait until it has succeeded"
        raise ServiceError(Code.JOB_NOT_FINISHED, detail, field=field, value=record.id, retry_after=RETRY_AFTER)
    if not isinstance(record.result, GenerateResult):
        why = f": {record.error.detail}" if record.error else ""
        detail = f"job {record.id} has {'failed' if record.error else 'been canceled'}{why}"
        raise ServiceError(Code.JOB_NOT_SUCCESSFUL, detail, field=field, value=record.id)
    return record.result


def check_image(result: GenerateResult, image: int, job_id: str, *, field: str) -> None:
    """Raise image-index-out-of-range unless the job made that image."""
    if image >= len(result.images):
        detail = f"job {job_id} has {len(result.images)} images, counted from 0; there is no image {image}"
        raise ServiceError(Code.IMAGE_INDEX, detail, field=field, value=image)


def check_side(side: int, card: ModelCard, limit: int, *, field: str) -> None:
    """Raise size-too-large or size-not-divisible unless a model can draw an image of that side."""
    check_at_most(side, limit, Code.SIZE_TOO_LARGE, field=field)
    if side % card.size_multiple:
        detail = f"`{field}` {side} is not a multiple of {card.size_multiple}, as model {card.name!r} needs"
        raise ServiceError(Code.SIZE_NOT_DIVISIBLE, detail, field=field, value=side)


def check_at_most(number: int, limit: int, code: Code, *, field: str) -> None:
    """Raise `code` for a number over its limit."""
    if number > limit:
        raise ServiceError(code, f"`{field}` is {number}; allowed: at most {limit}", field=field, value=number)
