"""Records in an embedded Valkey, as many as are asked for: what reading them takes while their number doubles."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from redis.asyncio import Redis

from benchmarks.timing import Clock, seconds
from contracts.schema.fields import Artifact
from contracts.schema.images import FilledCapture, GeneratedImage, GenerateJob, ImagesResult
from contracts.schema.jobs import JobRecord, State
from contracts.state import keys, retention
from contracts.state.ledger import Ledger, finished, write
from launcher.children import Child
from launcher.valkey import embedded_url

COUNTS = (1000, 2000, 4000, 8000)
PAGE = 50  # records of a page
AT_A_TIME = 200  # records written
JOB = GenerateJob(
    prompt="a photograph of a sun and a house", model="world", seed=1, guidance_scale=3, height=128, width=128,
    scheduler="DDIMScheduler", capture=FilledCapture(self_attention=False),
)  # fmt: skip
IMAGE = Artifact(name="image-0.png", media_type="image/png", size=20_000, sha256="0" * 64, url="/")
RESULT = ImagesResult(
    kind="generate", model="world", height=128, width=128, num_inference_steps=30, guidance_scale=3, scheduler="DDIMScheduler",
    evaluations=30, timesteps=[float(step) for step in range(30)], blocks=[], self_attention=True, keep="replay",
    images=[GeneratedImage(index=0, seed=1, image=IMAGE, trace_bytes=200_000)],
)  # fmt: skip


@contextmanager
def valkey() -> Iterator[str]:
    """Run an embedded Valkey; its URL."""
    with TemporaryDirectory(prefix="ovam-bench-") as folder, ExitStack() as stack:
        yield embedded_url(stack, list[Child](), Path(folder), dict(os.environ))


def doubled(url: str, repeats: int, clock: Clock) -> Iterator[tuple[float, int]]:
    """Yield, for each count of jobs, the shortest time of reading a page and a record and of a touch, and Valkey's memory."""
    with asyncio.Runner() as runner:

        async def work() -> None:
            async with Redis.from_url(url) as redis:
                page, _ = await Ledger(redis).newest(None, PAGE)
                await Ledger(redis).get(page[-1].id)
                await retention.touch(redis, page[0].id)

        before = 0
        for count in COUNTS:
            runner.run(add(url, count - before))
            before = count
            runner.run(work())
            yield min(seconds(lambda: runner.run(work()), clock) for _ in range(repeats)), runner.run(memory(url))


async def add(url: str, count: int) -> None:
    """Store records of jobs that succeeded."""
    async with Redis.from_url(url) as redis:
        for begin in range(0, count, AT_A_TIME):
            async with redis.pipeline(transaction=True) as pipe:
                for _ in range(min(AT_A_TIME, count - begin)):
                    record = JobRecord.filed(JOB, timedelta(hours=1), "").changed(claimed=True, attempt=1)
                    write(pipe, finished(record, State.SUCCEEDED, result=RESULT))
                    pipe.zadd(keys.JOBS, {record.id: 0})
                await pipe.execute()


async def memory(url: str) -> int:
    """The bytes that Valkey's data take."""
    async with Redis.from_url(url) as redis:
        return int((await redis.info("memory"))["used_memory_dataset"])
