"""From one state of a job to the next: what a record becomes, and who may change it."""

from collections.abc import Sequence

from contracts.schema.errors import Code, Failure
from contracts.schema.jobs import AnyResult, JobRecord, State, utc_now


class LostJob(Exception):  # noqa: N818  # not an error: the work is simply no longer wanted
    """The attempt no longer holds the job: it was canceled, deleted, or given to another worker."""


class CancelRequested(LostJob):
    """The attempt still holds the job, but its client wants it to stop."""


def held(record: JobRecord, attempt: int) -> JobRecord:
    """The record, if the attempt still holds it, started or not."""
    if record.attempt != attempt or not record.claimed or record.state.final:
        raise LostJob(record.id)
    return record


def running(record: JobRecord) -> JobRecord:
    """The record of a job that runs, since now or for a while."""
    return record if record.state is State.RUNNING else record.changed(state=State.RUNNING, started_at=utc_now())


def wanted(record: JobRecord, attempt: int) -> JobRecord:
    """The record, if the attempt still holds it and should continue."""
    if held(record, attempt).cancel_requested or record.is_late():
        raise CancelRequested(record.id)
    return record


def naming_tokens(record: JobRecord, references: Sequence[str]) -> JobRecord:
    """The record with the versions that its tokens got in its result."""
    return record if record.result is None or not references else record.changed(result=record.result.named(references))


def stopped(record: JobRecord, result: AnyResult | None = None) -> JobRecord:
    """The record of a job that was canceled, by its client or by its deadline, with what it kept."""
    error = None
    if record.is_late() and not record.cancel_requested and result is None:
        detail = f"the job had not ended when its deadline, {record.deadline:%Y-%m-%d %H:%M:%S} UTC, passed"
        error = Failure(code=Code.DEADLINE_PASSED, detail=detail)
    return finished(record, State.CANCELED, result=result, error=error)


def finished(
    record: JobRecord,
    state: State,
    *,
    result: AnyResult | None = None,
    error: Failure | None = None,
) -> JobRecord:
    """The record in a final state; its time to live starts now."""
    now = utc_now()
    life = record.expires_at - record.created_at
    return record.changed(state=state, result=result, error=error, finished_at=now, expires_at=now + life)
