"""What annotation tools have in common: an image is filed once, and asked about; who asks waits no longer than the tool does."""

import asyncio
import hashlib
import io
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool

from contracts.rules.sources import check_image
from contracts.schema.attribute import AttributeRequest, AttributeResult, Segment
from contracts.schema.errors import Code, ServiceError
from contracts.schema.fields import NAME, Artifact, Schema
from contracts.schema.images import ImageJob, ImageRequest, ImagesResult
from contracts.schema.jobs import AnyJob, JobRecord, State
from contracts.schema.probe import ProbeRequest, ProbeResult
from contracts.schema.targets import Target
from contracts.schema.tokens import TokenCard
from contracts.state import keys
from contracts.state.registry import Registry
from contracts.state.results import with_result
from ovam.core.coco import decode_run_lengths
from ovam.core.masks import resized
from service.integrations.guided import Place, guided
from service.queue import NOTHING, Once
from service.resources import Resources
from service.routes.submission import filed
from service.validation import attribute, image, probe
from service.validation.lookups import Lookups

REFERENCE = re.compile(rf"{NAME}(@[1-9][0-9]{{0,8}})?")
TRIES = 3  # to find a job of the same request that did not fail
RETRY_AFTER = 5  # seconds
INTERACTIVE: Mapping[str, Any] = {"priority": "interactive"}
Mask = Bool[np.ndarray, "height width"]
R = TypeVar("R", bound=Schema)


@dataclass(frozen=True)
class Picture:
    """An image of a job, as a tool shows it."""

    job_id: str
    image: int
    model: str
    traced: tuple[int, int]
    """(height, width) in the job, which masks have."""
    shown: tuple[int, int]
    """(height, width) in the tool."""


@dataclass(frozen=True)
class Found:
    """Where something is: its mask of the size that the tool shows."""

    score: float
    """The confidence of its segment: by it tools sort, and leave out what is not sure."""
    mask: Mask


class Asking:
    """Asks for one client, who waits `seconds` for everything."""

    def __init__(self, resources: Resources, seconds: float) -> None:
        self.resources = resources
        self.deadline = asyncio.get_running_loop().time() + seconds

    async def file(self, data: bytes, model: str | None = None) -> Picture:
        """The picture of a file. A model looks at the same file once: its job is found by the file's content."""
        card = await self.resources.catalog.model(model)  # whether or not a tool names the default one
        request = ImageRequest(image=b64encode(data).decode(), model=card.name)
        filled = partial(image.filled, file=data)
        record = await self.done(f"image-{card.name}-{hashlib.sha256(data).hexdigest()}", request, filled, {"image": data})
        if not isinstance(record.result, ImagesResult) or not isinstance(record.request, ImageJob):
            raise unfinished(record)
        found, upload = record.result, record.request.upload
        return Picture(record.id, 0, found.model, (found.height, found.width), (upload.height, upload.width))

    async def job(self, job_id: str, index: int, *, field: str) -> Picture:
        """The picture of a job's image, whose own trace is then asked."""
        found = await self.resources.lookups.images_of(job_id, field=field)
        check_image(found, index, job_id, field=field)
        size = (found.height, found.width)
        return Picture(job_id, index, found.model, size, size)

    async def targets(self, picture: Picture, targets: Sequence[Target], places: Sequence[Place] = ()) -> list[Found]:
        """Where targets are; with places, the parts of their masks there."""
        request = AttributeRequest(job_id=picture.job_id, image=picture.image, targets=[*targets], confidence=True)
        record = await self.done(f"targets-{digest(request)}", request, attribute.filled)
        if not isinstance(record.result, AttributeResult):
            raise unfinished(record)
        return [await self.found(record, segment, picture, places) for segment in record.result.segments]

    async def found(self, record: JobRecord, segment: Segment, picture: Picture, places: Sequence[Place]) -> Found:
        """A segment as the tool shows it."""
        mask = decode_run_lengths({"size": [*segment.rle.size], "counts": segment.rle.counts})
        if places:
            heat = await self.array(record, segment.refined_npy or segment.heatmap_npy)
            mask = guided(mask, resized(heat, picture.traced), places)
        sure = segment.confidence.value if segment.confidence else segment.score
        return Found(sure, enlarged(mask, picture.shown))

    async def best(self, picture: Picture, place: Place, words: Sequence[str]) -> str:
        """The word that a place attends to most: a probe."""
        request = ProbeRequest(image=picture.image, box=place.box, words=[*words])
        filled = partial(probe.filled, job_id=picture.job_id)
        record = await self.done(f"place-{digest(request)}", request, filled, about=picture.job_id)
        if not isinstance(record.result, ProbeResult):
            raise unfinished(record)
        return record.result.words[0].word

    async def done(
        self,
        key: str,
        request: R,
        filled: Callable[[R, Lookups], Awaitable[AnyJob]],
        uploads: Mapping[str, bytes] = NOTHING,
        *,
        about: str = "",
    ) -> JobRecord:
        """The job of a request, once it has succeeded: filed once while it is kept. Raises its failure, or job-not-finished."""
        tries = key
        for _ in range(TRIES):
            once = await asyncio.to_thread(Once.of, tries, request, 0, about=about)
            record, new = await filed(request, filled, self.resources, once, INTERACTIVE, uploads=uploads)
            if new or record.state in (State.QUEUED, State.RUNNING, State.SUCCEEDED):
                break
            tries = f"{key}-{record.id}"  # that one failed, was canceled, or is not kept any more
        await self.resources.events.finished(record.id, max(0.0, self.deadline - asyncio.get_running_loop().time()))
        record = await with_result(await self.resources.ledger.get(record.id), self.resources.store)
        if record.state is State.SUCCEEDED:
            return record
        raise unfinished(record)

    async def array(self, record: JobRecord, file: Artifact) -> np.ndarray:
        """A job's array."""
        data = await self.resources.store.get(f"{keys.attempt_folder(record.id, record.attempt)}/{file.name}")
        if data is None:
            raise ServiceError(Code.UNKNOWN_JOB, f"job {record.id} was deleted")
        return np.load(io.BytesIO(data), allow_pickle=False)


async def token_named(text: str, registry: Registry) -> TokenCard | None:
    """The learned token that a text names: `name@version`, which must be one, or the newest of `name`. Raises unknown-token."""
    if not REFERENCE.fullmatch(text):
        return None
    return await (registry.get(text) if "@" in text else registry.find(text))


def unfinished(record: JobRecord) -> ServiceError:
    """Why a job gave nothing."""
    if record.error is not None:
        return ServiceError(record.error.code, f"job {record.id} failed: {record.error.detail}", field=record.error.field)
    if record.state.final:
        return ServiceError(Code.JOB_NOT_SUCCESSFUL, f"job {record.id} is {record.state}")
    detail = f"job {record.id} is still {record.state}; ask again, and it is not begun anew"
    return ServiceError(Code.JOB_NOT_FINISHED, detail, retry_after=RETRY_AFTER)


def enlarged(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask at another size, its edges smooth: between pixels it goes on as the nearer ones are."""
    return mask if mask.shape == size else resized(mask.astype(np.float32), size) >= 1 / 2


def digest(request: Schema) -> str:
    """A name for a request: the same for the same request."""
    return hashlib.sha256(request.model_dump_json().encode()).hexdigest()
