"""One image of a data set: two jobs, one after the other, and what is kept of them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import structlog
from redis.exceptions import RedisError

from contracts.schema.attribute import AttributeResult
from contracts.schema.datasets import DatasetJob, DatasetPrompt, DatasetRecord, Entry, KeptMasks
from contracts.schema.errors import Code, Failure, ServiceError
from contracts.schema.fields import Schema
from contracts.schema.images import ImagesResult
from contracts.schema.jobs import AnyJob, JobRecord
from contracts.state import keys
from contracts.state.datasets import Datasets
from contracts.state.results import with_result
from service.access import Client
from service.datasets.judging import found_in, judged
from service.queue import Once
from service.resources import Resources
from service.routes import submission
from service.terms import Terms
from service.validation import attribute, generate
from service.validation.datasets import question
from service.validation.lookups import Lookups

BULK = Terms("bulk", None, None)
LONGEST_PAUSE = 30.0  # seconds until a submission that was refused is tried again
PAUSE = 1.0  # seconds, while Redis is away
LONGEST_WAIT = 60.0  # seconds for events, until the job is looked at
TRIES = 3  # for an image whose jobs are deleted, or lost by Redis
GONE = (Code.UNKNOWN_JOB, Code.JOB_EXPIRED, Code.UNKNOWN_ARTIFACT)

T = TypeVar("T")
log = structlog.get_logger("ovam.gateway")


@dataclass(frozen=True)
class Image:
    """What is to be made."""

    number: int
    custom_id: str
    prompt: DatasetPrompt
    seed: int

    @staticmethod
    def of(job: DatasetJob, prompt: DatasetPrompt, number: int, repeat: int) -> "Image":
        """Image `number` of a data set, which is image `repeat` of its prompt."""
        name = prompt.custom_id if job.images_per_prompt == 1 else f"{prompt.custom_id}-{repeat}"
        return Image(number, name, prompt, job.seed + number if prompt.seed is None else prompt.seed + repeat)

    def entry(self) -> Entry:
        """The entry, before anything is known of it."""
        return Entry(number=self.number, custom_id=self.custom_id, prompt=self.prompt.prompt, seed=self.seed, state="accepted")


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """Do something that takes a moment to its end, even if it is to be given up meanwhile: nothing is left half done."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody is left to be told of it
        raise


class FailedJobError(Exception):
    """A job of an image did not succeed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class Jobs:
    """The jobs of a data set, filed for its client at bulk priority."""

    def __init__(
        self, resources: Resources, client: Client, record: DatasetRecord, waits: Callable[[Failure | None], None]
    ) -> None:
        self.resources = resources
        self.client = client
        self.record = record
        self.waits = waits
        """Told why nothing can be filed, and None once it can."""
        self.discarding: set[asyncio.Task[None]] = set()
        self.under_way: dict[str, tuple[JobRecord, Once]] = {}

    async def made(self, image: Image, fence: int, datasets: Datasets) -> Entry:
        """Make an image and its masks, keep them, and count the entry; only then are its jobs deleted. LostDataset."""
        mine: list[str] = []
        entry = await self.tried(image, mine)
        await self.surely(lambda: datasets.enter(self.record, fence, entry))
        task = asyncio.create_task(self.discard(mine))  # the next image need not wait for that
        self.discarding.add(task)
        task.add_done_callback(self.discarding.discard)
        return entry

    async def tried(self, image: Image, mine: list[str]) -> Entry:
        """What became of an image. One whose jobs are gone is made again."""
        failure = Failure(code=Code.INTERNAL, detail="the image could not be made")
        for _ in range(TRIES):
            try:
                return await self.kept(image, mine)
            except FailedJobError as error:
                failure = error.failure
                if failure.code not in GONE:
                    break
            except Exception as error:  # whatever is wrong with one image, the others are made
                log.exception("dataset-image-failed", dataset_id=self.record.id, number=image.number)
                failure = Failure(code=Code.INTERNAL, detail=f"the gateway met an unexpected {type(error).__name__}; see its log")
                break
        return image.entry().model_copy(update={"state": "failed", "error": failure})

    async def kept(self, image: Image, mine: list[str]) -> Entry:
        """Have an image drawn and looked at, and keep it unless it is rejected. FailedJobError."""
        job = self.record.request
        drawing = await self.done(
            image, "generate", job.generation.request(image.prompt.prompt, image.seed), generate.filled, mine
        )
        asked = question(job, image.prompt.classes, drawing.id)
        looking = await self.done(image, "attribute", asked, attribute.filled, mine)
        drawn, seen = drawing.result, looking.result
        if not isinstance(drawn, ImagesResult) or not isinstance(seen, AttributeResult):
            raise FailedJobError(Failure(code=Code.JOB_EXPIRED, detail="the result of a job was gone before it was kept"))
        file = drawn.images[0].image
        facts: dict[str, Any] = {
            "height": seen.height,
            "width": seen.width,
            "found": found_in(seen, job.filters),
            "sha256": file.sha256,
            "weights": drawn.weights,
        }
        if seen.appraisal and job.filters.duplicates == "perceptual":
            facts["looks"] = seen.appraisal.looks
        entry = judged(image.entry().model_copy(update=facts), seen.appraisal, job.filters)
        if entry.state == "rejected":
            return entry
        masks = KeptMasks(masks={segment.label: segment.rle for segment in seen.segments}).model_dump_json().encode()
        source = f"{keys.attempt_folder(drawing.id, drawing.attempt)}/{file.name}"
        store = self.resources.store
        try:
            await self.surely(lambda: store.copy(source, keys.dataset_image(self.record.id, image.number)))
            await self.surely(lambda: store.put(keys.dataset_masks(self.record.id, image.number), masks))
        except ServiceError as error:
            raise FailedJobError(Failure.of(error)) from error
        return entry.model_copy(update={"kept_bytes": file.size + len(masks)})

    async def done(
        self, image: Image, step: str, request: Schema, filled: Callable[..., Awaitable[AnyJob]], mine: list[str]
    ) -> JobRecord:
        """File a job, unless it was filed before, and wait for its end. FailedJobError."""
        once = Once.of(f"dataset.{self.record.id}.{image.number}.{step}", request, 0)
        try:
            record = await self.surely(lambda: whole(self.filed(request, filled, once)))
            mine.append(record.id)
            while not record.state.final:
                await self.resources.events.finished(record.id, LONGEST_WAIT)
                record = await self.surely(partial(self.resources.ledger.get, record.id))
                if self.resources.events.stopped:
                    await asyncio.sleep(PAUSE)  # the gateway stops, and this with it
            self.under_way[record.id] = record, once
            record = await self.surely(partial(with_result, record, self.resources.store))
        except ServiceError as error:
            raise FailedJobError(Failure.of(error)) from error
        if record.error or record.result is None:
            detail = f"its {step} job was {record.state}"
            raise FailedJobError(record.error or Failure(code=Code.JOB_NOT_SUCCESSFUL, detail=detail))
        return record

    async def filed(self, request: Schema, filled: Callable[[Schema, Lookups], Awaitable[AnyJob]], once: Once) -> JobRecord:
        """The job of a request, which is under way from now on."""
        record, _ = await submission.filed(request, filled, self.resources.seen_by(self.client), once, BULK.fields())
        self.under_way[record.id] = record, once
        return record

    async def surely(self, do: Callable[[], Awaitable[T]]) -> T:
        """Do something, again and again while it is refused for a time, or Redis or the store is away."""
        while True:
            try:
                answer = await do()
            except RedisError:
                self.waits(Failure(code=Code.REDIS_UNAVAILABLE, detail="Redis cannot be reached"))
                await asyncio.sleep(PAUSE)
            except ServiceError as error:
                if error.retry_after is None:
                    raise
                self.waits(Failure.of(error))
                await asyncio.sleep(min(error.retry_after, LONGEST_PAUSE))
            else:
                self.waits(None)
                return answer

    async def discard(self, jobs: list[str] | None = None) -> None:
        """Delete jobs, their files and their idempotency keys; all that are under way, unless some are named."""
        view = self.resources.seen_by(self.client)
        for job_id in [*self.under_way] if jobs is None else jobs:
            if job_id not in self.under_way:  # another task has just begun to delete it
                continue
            record, once = self.under_way.pop(job_id)
            with suppress(RedisError, ServiceError):  # it expires
                await view.store.delete_folder(keys.job_folder(job_id))
                await view.queue.forget(record)
                await view.redis.delete(keys.idempotency(once.key, self.client.tenant))
