"""Drives data sets: each gateway leases some that nobody drives, and has their images made by generate and attribute jobs.

Nothing of a data set is in a gateway's memory but the images under way and the entries of segments that are not complete. What a
gateway leaves behind when it is killed, another goes on with: each image's jobs are filed under idempotency keys of their own, so
that they are found again and not done twice.
"""

import asyncio
from contextlib import suppress
from itertools import count
from time import monotonic

import structlog
from redis.exceptions import RedisError

from contracts.schema.datasets import DatasetPrompt, DatasetRecord, DatasetState, Entry
from contracts.schema.errors import Code, Failure, ServiceError
from contracts.schema.jobs import utc_now
from contracts.state import keys
from contracts.state.datasets import ACTIVE, LEASE, REJECTED, SEGMENT, Datasets, LostDataset
from contracts.state.presence import heartbeats
from service.access import Client
from service.datasets.comparing import compare
from service.datasets.files import PROMPTS, numbers_in, read_prompts, segments_of, write_entries
from service.datasets.images import Image, Jobs, whole
from service.resources import Resources

LOOK = 1.0  # seconds between two looks for data sets, and between two renewals of a lease
COUNTED_EVERY = 10  # looks: how many workers there are
AT_A_TIME = 32  # data sets that one gateway drives
AHEAD = 2  # segments, of which entries are in Redis, that are begun before the first of them is complete
FOR_EACH_WORKER = 3  # images under way: one on the device, one that waits for it, one on its way
log = structlog.get_logger("ovam.gateway")


async def drive_forever(resources: Resources) -> None:
    """Drive what nobody drives, for as long as the gateway runs."""
    driven = set[asyncio.Task[None]]()
    try:
        while True:
            with suppress(RedisError):
                while len(driven) < AT_A_TIME and (taken := await whole(Datasets(resources.redis).take())):
                    task = asyncio.create_task(drive(resources, *taken))
                    driven.add(task)
                    task.add_done_callback(driven.discard)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await resources.dataset_due.wait()
            resources.dataset_due.clear()
    finally:
        for task in driven:
            task.cancel()
        await asyncio.gather(*driven, return_exceptions=True)


async def drive(resources: Resources, dataset_id: str, fence: int) -> None:
    """Work on a data set until it is done, or no longer this gateway's. What breaks is tried again under the next lease."""
    datasets = Datasets(resources.redis)
    try:
        record = await datasets.find(dataset_id)
        if record is not None:
            client = Client(record.tenant, await datasets.limits(dataset_id))
            await Drive(resources, client, datasets, record, fence).run()
    except asyncio.CancelledError:
        with suppress(RedisError):
            await datasets.release(dataset_id)
        raise
    except LostDataset:
        log.info("dataset-lost", dataset_id=dataset_id)
    except Exception as error:
        log.exception("dataset-interrupted", dataset_id=dataset_id)
        with suppress(RedisError, LostDataset):
            await failed(datasets, dataset_id, fence, error)


async def failed(datasets: Datasets, dataset_id: str, fence: int, error: Exception) -> None:
    """End a data set that cannot go on, until its client resumes it. What lies in Redis or the store passes by itself."""
    if isinstance(error, RedisError) or (isinstance(error, ServiceError) and error.retry_after is not None):
        return
    failure = Failure(code=Code.INTERNAL, detail=f"the gateway met an unexpected {type(error).__name__}; its log has the details")
    if isinstance(error, ServiceError):
        failure = Failure.of(error)
    fields = {"error": failure.model_dump_json(), "finished_at": utc_now().isoformat()}
    await datasets.move(dataset_id, DatasetState.FAILED, ACTIVE, fields, fence=fence)


class Drive:
    """A data set under a lease."""

    def __init__(self, resources: Resources, client: Client, datasets: Datasets, record: DatasetRecord, fence: int) -> None:
        self.resources = resources
        self.store = resources.store
        self.datasets = datasets
        self.record = record
        self.fence = fence
        self.jobs = Jobs(resources, client, record, self.note)
        self.state = record.state
        self.limit = 1
        self.waits: Failure | None = None
        self.tasks: dict[asyncio.Task[Entry], int] = {}
        self.open: dict[int, str] = {}
        self.sealed = 0
        self.prompts: tuple[int, list[DatasetPrompt]] = (-1, [])
        self.done = record.counts.done
        self.begun = monotonic(), self.done

    async def run(self) -> None:
        """Work on all images, with the lease renewed beside it; then compare them. LostDataset."""
        started = {} if self.record.started_at else {"started_at": utc_now().isoformat()}
        before = await self.datasets.move(self.record.id, DatasetState.RUNNING, ACTIVE, started, fence=self.fence, due=LEASE)
        if before not in ACTIVE:
            return
        self.state = await self.datasets.renew(self.record.id, self.fence)
        keeping = asyncio.create_task(self.keep())
        try:
            working = asyncio.create_task(self.work())
            await asyncio.wait([keeping, working], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                working.cancel()
                await asyncio.wait([working])
            await (keeping if keeping.done() else working)  # raises what ended it
        finally:
            keeping.cancel()
            working.cancel()
            await asyncio.gather(keeping, working, return_exceptions=True)

    async def keep(self) -> None:
        """Renew the lease, say how far it is, and see what the client wants. Raises LostDataset; returns once it is canceled."""
        for look in count():
            with suppress(RedisError):
                self.state = await self.datasets.renew(self.record.id, self.fence)
                if self.state is DatasetState.CANCELED:
                    return
                if look % COUNTED_EVERY == 0:
                    self.limit = self.record.request.concurrency or FOR_EACH_WORKER * max(
                        1, len(await heartbeats(self.resources.redis))
                    )
                await self.tell()
            await asyncio.sleep(LOOK)

    async def tell(self) -> None:
        """Say how far it is, why it waits, and how long it will take by how fast it was."""
        seconds, done = monotonic() - self.begun[0], self.done - self.begun[1]
        fields = {"waits": self.waits.model_dump_json() if self.waits else ""}
        if done and self.record.counts.entries:
            fields["seconds"] = f"{seconds / done * (self.record.counts.entries - self.done):.1f}"
        await self.datasets.note(self.record.id, **fields)
        await self.datasets.announce(self.record.id)

    def note(self, why: Failure | None) -> None:
        """Remember why nothing is started."""
        self.waits = why

    async def work(self) -> None:
        """Work on the images that are missing, several at a time; then compare all."""
        self.sealed, self.open = await self.datasets.open_entries(self.record.id)
        number = self.sealed * SEGMENT
        try:
            while self.sealed < segments_of(self.record):
                if self.state not in ACTIVE and not self.tasks:
                    break
                while self.state in ACTIVE and len(self.tasks) < self.limit and number < self.edge():
                    if number not in self.open:
                        self.tasks[asyncio.create_task(self.made(number))] = number
                    number += 1
                await self.wait()
                await self.seal()
        except BaseException:
            with suppress(RedisError, ServiceError):
                await self.drop()
            raise
        await asyncio.gather(*self.jobs.discarding)
        if self.state in ACTIVE and self.sealed == segments_of(self.record):
            await self.finish()

    def edge(self) -> int:
        """The first number that is not begun yet, since too many entries would be in Redis."""
        return min((self.sealed + AHEAD) * SEGMENT, self.record.counts.entries)

    async def made(self, number: int) -> Entry:
        """Make one image and its masks, and count it. LostDataset."""
        return await self.jobs.made(await self.image(number), self.fence, self.datasets)

    async def image(self, number: int) -> Image:
        """What is to be made."""
        each = self.record.request.images_per_prompt
        place, repeat = divmod(number, each)
        segment, at = divmod(place, PROMPTS)
        known, prompts = self.prompts
        if known != segment:
            prompts = await read_prompts(self.store, self.record.id, segment)
            self.prompts = segment, prompts
        return Image.of(self.record.request, prompts[at], number, repeat)

    async def wait(self) -> None:
        """Wait for an image, but not long; what broke one breaks all."""
        done, _ = (
            await asyncio.wait(self.tasks, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED) if self.tasks else (set(), None)
        )
        for task in done:
            entry = task.result()
            self.open[self.tasks.pop(task)] = entry.model_dump_json(exclude_defaults=True)
            self.done += 1

    async def seal(self) -> None:
        """Bring the segments that are complete to the store, in their order."""
        while self.sealed < segments_of(self.record):
            numbers = [*numbers_in(self.record, self.sealed)]
            if any(each not in self.open for each in numbers):
                return
            await write_entries(self.store, self.record.id, self.sealed, [self.open[each] for each in numbers])
            await self.datasets.seal(self.record.id, self.fence, self.sealed, numbers)
            for each in numbers:
                del self.open[each]
            self.sealed += 1

    async def drop(self) -> None:
        """Stop what is under way: its jobs go with it if the client canceled or deleted the data set."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        record = await self.datasets.find(self.record.id)
        if record is None or record.state is DatasetState.CANCELED:
            await self.jobs.discard()
        await asyncio.gather(*self.jobs.discarding, return_exceptions=True)
        if record is None:
            await self.store.delete_folder(keys.dataset_folder(self.record.id))

    async def finish(self) -> None:
        """Compare all images, and end."""
        counts = await compare(self.store, self.record)
        fields = {name: str(counts.get(name, 0)) for name in ("accepted", "failed")}
        fields |= {name: str(count) for name, count in counts.items() if name.startswith(REJECTED)}
        fields |= {"finished_at": utc_now().isoformat(), "waits": "", "seconds": "0"}
        await self.datasets.move(self.record.id, DatasetState.SUCCEEDED, ACTIVE, fields, fence=self.fence)
