"""A worker's life: open resources, take jobs until it is stopped, finish or hand back, close everything."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from docket import Worker as DocketWorker

from contracts.schema.errors import ServiceError
from contracts.schema.jobs import utc_now
from contracts.schema.workers import Heartbeat, HeldJob
from contracts.settings import BadSettingsError
from contracts.state import keys
from contracts.state.connections import redis_at
from contracts.state.ledger import Ledger
from contracts.state.store import ArtifactStore
from worker.attempts import Attempt, HandedBack
from worker.batches import Batches
from worker.clip import Clip
from worker.crf import CrfOnDevice, CrfProcesses
from worker.deadlines import watch_deadlines
from worker.device import DeviceGate, Priority
from worker.intake import Intake, watch_store
from worker.inventory import count_forever
from worker.janitor import clean_forever
from worker.metrics import Memory
from worker.models import Models, chosen_device, chosen_dtype, hide_progress_bars, loader, warm
from worker.monitor import watched
from worker.occupant import Occupant
from worker.presence import Offer, beat_forever, read_offers
from worker.resources import Resources
from worker.routing import lanes
from worker.scenes import Tiers
from worker.settings import WorkerSettings
from worker.sizes import run_here
from worker.tasks import docket_worker, job_task, open_docket

LOOK_SECONDS = 0.05
CANCEL_AGAIN_SECONDS = 0.5  # Redis' client swallows a cancel that meets the end of its own timeout

log = logging.getLogger(__name__)


@asynccontextmanager
async def opened(settings: WorkerSettings) -> AsyncIterator[Resources]:
    """Open everything the handlers need. BadSettingsError for a device that is not there."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        device = chosen_device(settings.device)
    except ValueError as error:
        raise BadSettingsError(str(error)) from error
    hide_progress_bars()
    scenes = Tiers(device, hot=settings.device_cache_bytes, warm=settings.trace_cache_bytes)
    offload = settings.offloads(on_cpu=device.type == "cpu")
    load = loader(device, chosen_dtype(settings.dtype, device), settings.default, offload=offload)
    with DeviceGate.open() as gate, CrfProcesses.open(min(settings.short_jobs, os.cpu_count() or 1)) as processes:
        async with redis_at(settings.redis_url) as redis, aclosing(Occupant(redis)) as occupant:
            batches = Batches.of(settings, gate, occupant, on_cpu=device.type == "cpu")
            yield Resources(
                settings=settings,
                redis=redis,
                ledger=Ledger(redis),
                store=ArtifactStore.at(settings.store),
                models=Models(
                    settings.models,
                    load,
                    gate,
                    most=settings.max_loaded_models,
                    dropped=scenes.forget_model,
                    adapters=settings.adapters,
                ),
                gate=gate,
                occupant=occupant,
                batches=batches,
                scenes=scenes,
                crf=CrfOnDevice(device) if settings.crf_backend == "torch" else processes,
                device=device,
                clip=Clip(settings.chosen_clip, device) if settings.chosen_clip else None,
            )


async def prepare(resources: Resources) -> None:
    """Load the default model and warm it. BadSettingsError if it does not load."""
    try:
        model = await resources.models.get(resources.settings.default)
    except ServiceError as error:
        raise BadSettingsError(f"OVAM_MODELS: {error}") from error
    await asyncio.wrap_future(resources.gate.submit(Priority.INTERACTIVE, lambda: warm(model)))


async def serve(resources: Resources, stopping: asyncio.Event) -> None:
    """Take jobs until `stopping`; then give running jobs their grace, and hand back those that need longer."""
    settings = resources.settings
    offers = await asyncio.to_thread(
        read_offers, settings.models, settings.default, settings.keep, settings.chosen_clip or None, settings.adapters
    )
    dtype = chosen_dtype(settings.dtype, resources.device)
    offers = [replace(offer, card=run_here(offer.card, settings, resources.device, dtype)) for offer in offers]
    attempts: set[Attempt] = set()
    left = asyncio.Event()
    task = job_task(resources, attempts, left.is_set)
    async with AsyncExitStack() as stack:
        held = lanes(settings, resources.batches.most)
        dockets = {name: await stack.enter_async_context(open_docket(name, settings, task)) for name in held}
        workers = [docket_worker(dockets[name], concurrency, settings) for name, concurrency in held.items()]
        intake = Intake(workers, left)
        now = beats_of(resources, offers, intake, attempts)
        await stack.enter_async_context(in_background(beat_forever(resources.redis, resources.occupant.holder, offers, now)))
        await stack.enter_async_context(in_background(clean_forever(resources, dockets)))
        await stack.enter_async_context(in_background(watch_deadlines(resources, dockets)))
        await stack.enter_async_context(in_background(count_forever(resources)))
        if settings.metrics_port:
            await stack.enter_async_context(watched(settings.metrics_host, settings.metrics_port, resources.metrics.registry))
        await stack.enter_async_context(in_background(watch_store(resources.store, intake)))
        takers = [asyncio.create_task(take_jobs(worker, intake.left), name=worker.docket.name) for worker in workers]
        log.info("%s is ready on %s", settings.worker_name, resources.device)
        await ended(takers, stopping, intake, attempts, settings.grace_seconds)


def beats_of(
    resources: Resources, offers: Sequence[Offer], intake: Intake, attempts: Collection[Attempt]
) -> Callable[[], Heartbeat]:
    """Return what tells how the worker is at the moment; its memory goes into the worker's own metrics as well."""
    memory = Memory(resources.scenes, resources.device)
    resources.metrics.registry.register(memory)
    beat = Heartbeat(
        name=resources.settings.worker_name,
        host=socket.gethostname(),
        device=str(resources.device),
        models=[offer.card.name for offer in offers],
        since=utc_now(),
    )

    def now() -> Heartbeat:
        jobs = [
            HeldJob(id=each.job_id, kind=each.record.kind, attempt=each.number, since=each.since, on_device=each.begun)
            for each in sorted(attempts, key=lambda each: each.since)
        ]
        changing = {"state": intake.state, "jobs": jobs, "memory": memory.used(), "trace_cache_bytes": resources.scenes.nbytes}
        return beat.model_copy(update=changing)

    return now


async def take_jobs(worker: DocketWorker, left: asyncio.Event) -> None:
    """Take jobs from a docket until it is to be left, then wait for those at hand, whose leases are no longer renewed."""
    async with worker:
        taking = asyncio.create_task(worker.run_forever())
        leave = asyncio.create_task(left.wait())
        await asyncio.wait([leave, taking], return_when=asyncio.FIRST_COMPLETED)
        leave.cancel()
    await taking  # leaving the worker has ended it; to cancel it would not do, since Redis' client may swallow that


async def ended(
    takers: list[asyncio.Task[None]], stopping: asyncio.Event, intake: Intake, attempts: set[Attempt], grace: float
) -> None:
    """Wait for the stop, or for a taker to break; then see to it that all end in time. Raises what broke a taker."""
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait([stop, *takers], return_when=asyncio.FIRST_COMPLETED)
    stopping.set()
    await stop
    intake.end()
    with suppress(TimeoutError):
        async with asyncio.timeout(grace):
            while attempts:  # noqa: ASYNC110  # a set that tasks empty; docket renews their leases meanwhile
                await asyncio.sleep(LOOK_SECONDS)
    intake.left.set()
    while not all(taker.done() for taker in takers):
        for attempt in list(attempts):  # one may have been about to begin
            attempt.stop(HandedBack())
        await asyncio.wait(takers, timeout=LOOK_SECONDS)
    await asyncio.gather(*takers)


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let something run inside the `with`."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_AGAIN_SECONDS)


async def run(settings: WorkerSettings) -> None:
    """Be a worker until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with opened(settings) as resources:
        if settings.preload:
            await prepare(resources)
        if not stopping.is_set():
            await serve(resources, stopping)
        holder = resources.occupant.holder
        await resources.redis.delete(keys.worker(settings.worker_name), keys.run(holder), keys.on_device(holder))
    log.info("%s has stopped", settings.worker_name)
