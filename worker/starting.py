"""What a generation starts from, read from the store: images of the job's size, and where one is painted anew."""

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from contracts.rules.annotations import marks_at
from contracts.rules.sources import check_image, images_of
from contracts.schema.conditions import JobImage, Source, Upload
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import GenerateJob
from contracts.state import keys
from ovam.core.mask_files import resized_to
from worker.attempts import Attempt
from worker.pictures import read_picture
from worker.pipelines import Start as Kind
from worker.resources import Resources

Size = tuple[int, int]
"""(height, width)."""
Pixels = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True, eq=False)
class Start:
    """What a generation starts from."""

    image: Pixels | None = None
    mask: Bool[np.ndarray, "height width"] | None = None
    """Where the image is painted anew."""

    @property
    def kind(self) -> Kind:
        """Which kind of pipeline starts so."""
        return "text" if self.image is None else "image" if self.mask is None else "mask"

    def arguments(self, job: GenerateJob, count: int) -> dict[str, Any]:
        """Return what a pipeline that starts so is called with, for so many images."""
        size = {"height": job.height, "width": job.width}
        if self.image is None:
            return size
        given = {"image": [Image.fromarray(self.image)] * count, "strength": job.strength}
        if self.mask is None:
            return given
        return given | size | {"mask_image": [Image.fromarray(self.mask.astype(np.uint8) * 255)] * count}


async def start_of(attempt: Attempt, job: GenerateJob, resources: Resources) -> Start:
    """Read what a job starts from. ServiceError for an image that is gone from the store, or whose job is."""
    if job.image is None:
        return Start()
    data, shape = await stored(attempt, job.image, resources, field="image")
    size = (job.height, job.width)

    def read() -> Start:
        if job.mask is None:
            return Start(read_picture(data, size))
        return Start(read_picture(data, size), resized_to(marks_at(job.mask, shape, field="mask"), size) == 1)

    return await asyncio.to_thread(read)


async def stored(attempt: Attempt, source: Source, resources: Resources, *, field: str) -> tuple[bytes, Size]:
    """Return the file of an image, and its (height, width)."""
    match source:
        case Upload():
            data = await resources.store.get(keys.upload(attempt.job_id, field))
            shape = (source.height, source.width)
        case JobImage():
            record = await resources.ledger.get(source.job_id, field=f"{field}.job_id")
            images = images_of(record, field=f"{field}.job_id")
            check_image(images, source.image, source.job_id, field=f"{field}.image")
            name = images.images[source.image].image.name
            data = await resources.store.get(f"{keys.attempt_folder(record.id, record.attempt)}/{name}")
            shape = (images.height, images.width)
    if data is None:
        raise ServiceError(Code.IMAGE_UNREADABLE, f"the image of `{field}` is gone from the store", field=field)
    return data, shape
