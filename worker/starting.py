"""What a generation starts from, read from the store: images of the job's size, and where one is painted anew."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from contracts.rules.annotations import marks_at
from contracts.rules.sources import check_image, images_of
from contracts.schema.conditions import JobImage, Source, Upload, sources_in
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import GenerateJob
from contracts.state import keys
from ovam.core.mask_files import resized_to
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
    control: Pixels | None = None
    """What the drawing follows."""
    prompt: Image.Image | None = None
    """What is drawn beside what the prompt says."""

    @property
    def kind(self) -> Kind:
        """Which kind of pipeline starts so."""
        return "text" if self.image is None else "image" if self.mask is None else "mask"

    def arguments(self, job: GenerateJob, count: int) -> dict[str, Any]:
        """Return what a pipeline that starts so is called with, for so many images."""
        given: dict[str, Any] = {"height": job.height, "width": job.width}
        if self.kind == "image" and self.control is None:
            given = {}  # it is the image's
        if self.image is not None:
            given |= {"image": [Image.fromarray(self.image)] * count, "strength": job.strength}
        if self.mask is not None:
            given["mask_image"] = [Image.fromarray(self.mask.astype(np.uint8) * 255)] * count
        if self.control is not None and job.control is not None:
            given["image" if self.image is None else "control_image"] = [Image.fromarray(self.control)] * count
            given["controlnet_conditioning_scale"] = job.control.scale
            given |= {"control_guidance_start": job.control.start, "control_guidance_end": job.control.end}
        if self.prompt is not None:
            given["ip_adapter_image"] = self.prompt
        return given


async def start_of(job_id: str, job: GenerateJob, resources: Resources) -> Start:
    """Read what a job starts from. ServiceError for an image that is gone from the store, or whose job is."""
    files = {field: await stored(job_id, each, resources, field=field) for field, each in sources_in(job).items()}
    return await asyncio.to_thread(read, job, files) if files else Start()


def read(job: GenerateJob, files: Mapping[str, tuple[bytes, Size]]) -> Start:
    """Unpack what a job starts from; `files` are those of its images, with their sizes."""
    size = (job.height, job.width)
    pixels = {field: read_picture(files[field][0], size) for field in ("image", "control.image") if field in files}
    prompt, mask = None, None
    if "image_prompt.image" in files:
        data, shape = files["image_prompt.image"]
        prompt = Image.fromarray(read_picture(data, shape))
    if job.mask is not None:
        mask = resized_to(marks_at(job.mask, files["image"][1], field="mask"), size) == 1
    return Start(pixels.get("image"), mask, pixels.get("control.image"), prompt)


async def stored(job_id: str, source: Source, resources: Resources, *, field: str) -> tuple[bytes, Size]:
    """Return the file of an image, and its (height, width)."""
    match source:
        case Upload():
            data = await resources.store.get(keys.upload(job_id, field))
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
