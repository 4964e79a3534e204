"""Where traces come from: memory, or else the artifact store, as stored queries or by a replay."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from contracts.rules.adapters import asked_again
from contracts.rules.sources import check_alive, check_image, images_of
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import BlockInfo, ImagesResult
from contracts.schema.jobs import JobRecord
from contracts.state import keys, retention
from ovam.core.selection import Blocks, FeatureChoice, Positions, select_blocks, select_positions
from ovam.core.tensor_files import head_size, layout_of
from ovam.errors import OvamError, TraceFormatError, TraceMismatchError
from ovam.tracing.replay import Replay
from ovam.tracing.stored import StoredPart
from ovam.tracing.trace import Trace
from ovam.tracing.trace_files import FORMAT
from worker.attempts import Attempt
from worker.device import Priority
from worker.models import Model
from worker.resources import Resources
from worker.scenes import Scene

HEAD_AT_ONCE = 1 << 16  # bytes of a file that are read first; most heads are shorter
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What a question wants of a trace: some selections of blocks and evaluations, perhaps more than their queries."""

    selections: Sequence[tuple[Blocks, Positions]]
    self_attention: bool = False
    features: bool = False
    """Of the UNet's blocks at the last evaluation."""
    contributions: bool = False

    def part(self, images: ImagesResult) -> "Part":
        """Return what all selections take together of an image's trace."""
        grids = {block.name: block.grid for block in images.blocks}
        blocks = {name for selection, _ in self.selections for name in select_blocks(selection, grids)}
        every = [select_positions(selection, images.evaluations, "evaluations") for _, selection in self.selections]
        if self.self_attention:
            every.append(tuple(range(images.evaluations)))
        positions = frozenset(position for some in every for position in some)
        return Part(frozenset(blocks), positions, self.self_attention, self.features, self.contributions)


@dataclass(frozen=True)
class Part:
    """Blocks and evaluations of a trace."""

    blocks: frozenset[str]
    positions: frozenset[int]
    self_attention: bool
    features: bool = False
    contributions: bool = False

    @classmethod
    def of(cls, trace: Trace) -> "Part":
        """Return the part of a trace that is in memory: all, where any attention is computed from what is there."""
        if trace.joint is not None:
            return cls(frozenset(trace.joint.grids), frozenset(range(len(trace.evaluations))), self_attention=True)
        positions = trace.blocks[0].positions
        found = range(len(trace.evaluations)) if positions is None else positions
        names = frozenset(block.name for block in trace.blocks)
        contributions = all(block.contribution is not None for block in trace.blocks)
        return cls(names, frozenset(found), bool(trace.self_attention), trace.features is not None, contributions)

    def covers(self, other: "Part") -> bool:
        """Whether all of another part is in this one."""
        pixels = self.self_attention or not other.self_attention
        features = self.features or not other.features
        contributions = self.contributions or not other.contributions
        return pixels and features and contributions and self.blocks >= other.blocks and self.positions >= other.positions

    def with_(self, other: "Part") -> "Part":
        """Return both parts together."""
        pixels = self.self_attention or other.self_attention
        features, contributions = self.features or other.features, self.contributions or other.contributions
        return Part(self.blocks | other.blocks, self.positions | other.positions, pixels, features, contributions)


@dataclass(frozen=True, eq=False)
class Traces:
    """Where one attempt at a job finds the traces of other jobs' images."""

    attempt: Attempt
    resources: Resources
    model: Model
    priority: Priority

    async def scene(self, job_id: str, image: int, wanted: Wanted, *, field: str) -> Scene:
        """Return an image of another job, and what is wanted of its trace, from the first tier that has it.

        `field` is where the request names the job. ServiceError when there is no such image (any more), trace-unreadable, and
        ovam's errors of traces.
        """
        record = await self.resources.ledger.get(job_id, field=field)
        images = images_of(record, field=field)
        if not await retention.touch(self.resources.redis, job_id):
            raise being_collected(job_id, field)
        check_image(images, image, job_id, field=field.replace("job_id", "image"))
        key, part = (record.id, record.attempt, image), wanted.part(images)
        async with self.resources.scenes.lock(key):
            scene = self.resources.scenes.get(key)
            known = Part.of(scene.trace) if scene is not None else None
            if scene is not None and known is not None and known.covers(part):
                return await self._hot(key, scene)
            pixels = scene.image if scene is not None else await self._pixels(record, image, field)
            trace = await self._stored(record, image, part if known is None else part.with_(known), images, field)
            scene = Scene(trace, pixels)
            await self.resources.scenes.keep(key, self.model.card.name, scene)
            return scene

    async def _hot(self, key: tuple[str, int, int], scene: Scene) -> Scene:
        """Return a scene on the device, where it stays as long as there is room."""
        device = self.resources.device
        if scene.trace.device.type == device.type:
            return scene
        scene = await self.attempt.on_device(self.priority, lambda: scene.on(device))
        await self.resources.scenes.keep(key, self.model.card.name, scene)
        return scene

    async def _pixels(self, record: JobRecord, image: int, field: str) -> np.ndarray:
        png = await self._file(record, f"image-{image}.png", field)

        def read() -> np.ndarray:
            with Image.open(BytesIO(png)) as picture:
                return np.asarray(picture.convert("RGB"))

        return await asyncio.to_thread(read)

    async def _stored(self, record: JobRecord, image: int, part: Part, images: ImagesResult, field: str) -> Trace:
        """Read or compute a part of a trace from what is stored; what is damaged or does not fit gives way to the other form."""
        tiers: list[Callable[[JobRecord, int, Part, str], Awaitable[Trace]]] = [self._replayed, self._read]
        if part.features or part.contributions:  # stored queries have none
            del tiers[1]
        elif images.keep == "queries":
            tiers.reverse()
        first: OvamError | ServiceError | None = None
        for tier in tiers:
            try:
                return await tier(record, image, part, field)
            except (TraceFormatError, TraceMismatchError, ServiceError) as error:
                if isinstance(error, ServiceError) and error.code != Code.TRACE_UNREADABLE:
                    raise
                log.warning("image %d of job %s: %s", image, record.id, error)
                first = first or error
        assert first is not None  # noqa: S101 - there is a tier
        raise first

    async def _replayed(self, record: JobRecord, image: int, part: Part, field: str) -> Trace:
        replay = await asyncio.to_thread(Replay.from_bytes, await self._file(record, keys.replay(image), field))

        def compute() -> Trace:
            if self.model.card.joint:  # nothing is computed before it is asked for
                return replay.trace(self.model.pipeline)
            return replay.trace(
                self.model.pipeline,
                blocks=sorted(part.blocks),
                evaluations=sorted(part.positions),
                self_attention=part.self_attention,
                features=FeatureChoice() if part.features else None,
                contributions=part.contributions,
                between=self.attempt.breathe,
            )

        return await self.attempt.on_device(self.priority, compute)

    async def _read(self, record: JobRecord, image: int, part: Part, field: str) -> Trace:
        """Read the wanted bytes of stored queries, and no others."""
        key = f"{keys.attempt_folder(record.id, record.attempt)}/{keys.trace(image)}"
        start = await self.resources.store.get_start(key, HEAD_AT_ONCE)
        if start is not None and (size := head_size(start[0])) > HEAD_AT_ONCE:
            start = await self.resources.store.get_start(key, size)
        if start is None:
            raise await self._gone(record, keys.trace(image), field)
        layout = layout_of(start[0])
        if layout.header.get("format") != FORMAT:  # an older one, which is read whole
            whole = await self._file(record, keys.trace(image), field)
            return await asyncio.to_thread(Trace.from_bytes, whole, self.model.pipeline)
        blocks, positions = sorted(part.blocks), sorted(part.positions)
        stored = StoredPart.of(layout, blocks=blocks, evaluations=positions, self_attention=part.self_attention)
        stored.require_whole(start[1])
        parts = await self.resources.store.get_ranges(key, stored.ranges())
        if parts is None:
            raise await self._gone(record, keys.trace(image), field)
        return await asyncio.to_thread(stored.trace, parts, self.model.pipeline)

    async def _file(self, record: JobRecord, name: str, field: str) -> bytes:
        data = await self.resources.store.get(f"{keys.attempt_folder(record.id, record.attempt)}/{name}")
        if data is None:
            raise await self._gone(record, name, field)
        return data

    async def _gone(self, record: JobRecord, name: str, field: str) -> ServiceError:
        """Say why a file is not there: the job may have been deleted, or collected, while the question was asked."""
        check_alive(await self.resources.ledger.get(record.id, field=field), field=field)
        return ServiceError(Code.TRACE_UNREADABLE, f"{name} of job {record.id} is gone from the store")


async def model_for(name: str, job_id: str, resources: Resources, *, field: str) -> Model:
    """Return a model as it was when a job's images were made: with the same adapters. ServiceError: unknown-adapter."""
    images = images_of(await resources.ledger.get(job_id, field=field), field=field)
    return await resources.models.get(name, asked_again(images))


def being_collected(job_id: str, field: str) -> ServiceError:
    """Return the problem of a job whose files are being deleted, because the store's quota is reached."""
    detail = f"job {job_id} was not used for long, and its files are deleted: the store's quota is reached; make the image again"
    return ServiceError(Code.JOB_EXPIRED, detail, field=field, value=job_id)


def block_infos(trace: Trace | Replay) -> list[BlockInfo]:
    """Describe the blocks that a trace holds."""
    layers = trace.blocks if isinstance(trace, Trace) else [layer for layer in trace.layers if layer.to_text]
    return [BlockInfo(name=layer.name, grid=layer.grid, heads=layer.heads) for layer in layers]


def timesteps_of(kept: Trace | Replay) -> list[float]:
    """Return the diffusion timestep of every evaluation that is kept."""
    return [*(kept.timesteps if isinstance(kept, Trace) else kept.moments)]
