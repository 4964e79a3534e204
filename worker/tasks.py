"""The docket's one task: run the job with this id, and record how it ended."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from docket import CurrentDocket, Docket, Retry, TaskKey
from docket import Worker as DocketWorker
from redis.exceptions import RedisError
from structlog.contextvars import bound_contextvars

from contracts.schema.errors import Code, Failure
from contracts.schema.jobs import JobRecord
from contracts.state import keys, turns
from contracts.state.dockets import JobDocket
from contracts.state.ledger import Ledger
from contracts.state.results import put_aside
from contracts.state.transitions import LostJob
from worker import tokens
from worker.attempts import Attempt, HandedBack
from worker.failures import failure_of
from worker.handlers import handle
from worker.outcomes import Outcome
from worker.resources import Resources
from worker.routing import left_to_others, places_left
from worker.settings import WorkerSettings
from worker.timed_store import TimedStore

RETRIED = (Code.STORE_UNAVAILABLE,)  # Redis' failures and workers' deaths are no outcomes, and always lead to another try
RETRY_PAUSE = timedelta(seconds=1)
FORGET_RUNS = timedelta(minutes=1)  # how long a docket remembers what has ended; the ledger knows it anyway
POLL = timedelta(milliseconds=100)

Task = Callable[..., Coroutine[Any, Any, None]]
log = logging.getLogger(__name__)


def open_docket(name: str, settings: WorkerSettings, task: Task) -> Docket:
    """Open a docket that knows the task."""
    docket = JobDocket(name=name, url=settings.redis_url, execution_ttl=FORGET_RUNS)
    docket.register(task, names=[keys.TASK])
    return docket


def docket_worker(docket: Docket, concurrency: int, settings: WorkerSettings) -> DocketWorker:
    """Return what takes jobs from a docket. It keeps its lease on them while the event loop lives, however long they take."""
    return DocketWorker(
        docket,
        name=settings.worker_name,
        concurrency=concurrency,
        redelivery_timeout=timedelta(seconds=settings.redelivery_seconds),
        reconnection_delay=RETRY_PAUSE,
        minimum_check_interval=POLL,
        schedule_automatic_tasks=False,
    )


def job_task(resources: Resources, attempts: set[Attempt], leaving: Callable[[], bool] = lambda: False) -> Task:
    """Return the task; `attempts` holds those under way, and none begins while the worker is `leaving` its dockets."""

    async def run_job(
        job_id: str = TaskKey(),
        retry: Retry = Retry.forever(delay=RETRY_PAUSE),  # noqa: B008
        docket: Docket = CurrentDocket(),  # noqa: B008
    ) -> None:
        """Run a job. Only the loss of Redis is raised: the docket then tries again, and the ledger counts the attempts."""
        if leaving():  # a docket may have asked for a job before it was told to take no more
            raise asyncio.CancelledError
        if (pause := await left_to_others(resources, job_id)) is not None:
            retry.in_(pause)
        with suppress(LostJob):
            most, holder = resources.settings.max_attempts, resources.occupant.holder
            record = await resources.ledger.claim(job_id, max_attempts=most, holder=holder)
            attempt = Attempt(record, resources.ledger, resources.gate, resources.occupant)
            attempts.add(attempt)
            try:
                await pass_on(resources, docket, record, attempts)
                with bound_contextvars(**known_by(record)), attempt.timing.of_attempt(record):
                    await run_attempt(attempt, resources)
            finally:
                attempts.discard(attempt)
                resources.metrics.ended(record.kind, attempt.timing)
                await pass_on(resources, docket, record, attempts)

    return run_job


async def pass_on(resources: Resources, docket: Docket, record: JobRecord, attempts: Iterable[Attempt]) -> None:
    """Hand on the tenant's next jobs, after one was claimed or has ended, as many as this worker has places for."""
    most = places_left(resources, record, [each.record for each in attempts])
    with suppress(RedisError):  # the janitor does it later
        await turns.pass_on(resources.redis, docket, record, min(most, turns.AT_A_TIME))


async def run_attempt(attempt: Attempt, resources: Resources) -> None:
    """Do the work of an attempt and record how it ended; LostJob if that is no longer for this attempt to say."""
    label = f"job {attempt.job_id}, attempt {attempt.number}"
    log.info("%s: claimed (%s)", label, attempt.record.kind)
    try:
        store = resources.store.patiently(resources.settings.store_patience_seconds, attempt.check)
        patient = replace(resources, store=TimedStore(store, resources.metrics))
        async with attempt.followed():
            outcome = await handle(attempt, seen_by(attempt.record.tenant, patient))
        record = await finish(attempt, outcome, patient)
        log.info("%s: %s", label, record.state)
    except LostJob:
        log.info("%s: no longer wanted", label)
        await clean(attempt, resources)
        await resources.ledger.canceled(attempt.job_id, attempt.number)
    except HandedBack:
        # Whether a docket that is about to stop keeps a canceled message for another worker is a matter of moments. The
        # record says that the job waits, so the janitor adds it again if the message is gone.
        await clean(attempt, resources)
        await resources.ledger.hand_back(attempt.job_id, attempt.number)
        log.info("%s: handed back", label)
        raise asyncio.CancelledError from None
    except asyncio.CancelledError:
        log.info("%s: canceled before it began", label)
        await clean(attempt, resources)
        raise
    except RedisError:
        log.exception("%s: Redis is lost", label)
        raise
    except Exception as error:
        log.exception("%s: failed", label)
        await clean(attempt, resources)
        attempt.timing.failed(failure := failure_of(error))
        await give_up(attempt, failure, resources)


async def give_up(attempt: Attempt, failure: Failure, resources: Resources) -> None:
    """Record a failure. Where another try may help, the job waits for one, unless it has been tried enough."""
    if failure.code in RETRIED:
        most = resources.settings.max_attempts
        record = await resources.ledger.put_back(attempt.job_id, attempt.number, failure, max_attempts=most)
        if record.retry_at and not record.state.final:
            log.info("job %s is tried again at %s", attempt.job_id, record.retry_at)
    else:
        await resources.ledger.fail(attempt.job_id, attempt.number, failure)


def known_by(record: JobRecord) -> dict[str, Any]:
    """What log lines about an attempt say, whoever writes them."""
    facts = record.model_dump(include={"kind", "attempt", "request_id", "tenant"})
    return {"job_id": record.id} | {name: value for name, value in facts.items() if value}


def seen_by(tenant: str, resources: Resources) -> Resources:
    """Return the resources where other tenants' jobs and tokens do not exist."""
    return replace(resources, ledger=Ledger(resources.redis, tenant))


async def finish(attempt: Attempt, outcome: Outcome, resources: Resources) -> JobRecord:
    """Store the tokens of an outcome, and record it. The tokens' files are deleted if the job is no longer this attempt's."""
    job_id, number, entries = attempt.job_id, attempt.number, [token.entry for token in outcome.tokens]
    try:
        await tokens.write(resources.store, outcome.tokens)
        if outcome.canceled:
            return await resources.ledger.canceled(job_id, number, outcome.result, tokens=entries)
        result, stored = await put_aside(outcome.result, resources.store, job_id, number)
        return await resources.ledger.succeed(job_id, number, result, stored=stored, tokens=entries)
    except RedisError:  # nobody knows whether the tokens are registered, so their files stay
        raise
    except BaseException:
        await tokens.discard(resources.store, outcome.tokens)
        raise


async def clean(attempt: Attempt, resources: Resources) -> None:
    """Delete the artifacts of an attempt that did not end well; if the store does not answer, the janitor does it later."""
    try:
        await resources.store.delete_folder(keys.attempt_folder(attempt.job_id, attempt.number))
    except Exception:  # whatever it is must not hide how the job ended
        log.exception("job %s, attempt %d: artifacts stay in the store", attempt.job_id, attempt.number)
