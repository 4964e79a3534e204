"""Where traces come from: memory, or else the artifact store."""

import asyncio
from io import BytesIO

import numpy as np
from PIL import Image

from contracts.rules.sources import check_image, images_of
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import BlockInfo
from contracts.state import keys
from ovam.tracing.trace import Trace
from worker.models import Model
from worker.resources import Resources
from worker.scenes import Scene


async def scene_of(resources: Resources, model: Model, job_id: str, image: int, *, field: str) -> Scene:
    """Return an image of another job, and its trace, from memory or from the store.

    `field` is where the request names the job. ServiceError when there is no such image (any more), trace-unreadable, and
    ovam's errors of traces.
    """
    record = await resources.ledger.get(job_id, field=field)
    check_image(images_of(record, field=field), image, job_id, field=field.replace("job_id", "image"))
    key = (record.id, record.attempt, image)
    if scene := resources.scenes.get(key):
        return scene
    folder = keys.attempt_folder(record.id, record.attempt)
    files = (f"{folder}/{keys.trace(image)}", f"{folder}/image-{image}.png")
    trace, png = await asyncio.gather(*map(resources.store.get, files))
    if trace is None or png is None:
        raise ServiceError(Code.TRACE_UNREADABLE, f"the trace of image {image} of job {record.id} is gone from the store")
    scene = await asyncio.to_thread(_read, trace, png, model)
    resources.scenes.keep(key, model.card.name, scene)
    return scene


def _read(trace: bytes, png: bytes, model: Model) -> Scene:
    with Image.open(BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB"))
    return Scene(Trace.from_bytes(trace, model.pipeline), pixels)


def block_infos(trace: Trace) -> list[BlockInfo]:
    """Describe the blocks that a trace holds."""
    return [BlockInfo(name=block.name, grid=block.grid, heads=block.heads) for block in trace.blocks]
