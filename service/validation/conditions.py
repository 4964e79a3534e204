"""What a generation starts from: its images unpacked once, or found in their jobs; a mask that marks something."""

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.rules.capabilities import Size
from contracts.rules.sources import check_image
from contracts.schema.conditions import Conditions, JobImage, Source, Upload, pictures_in
from contracts.schema.images import GenerateRequest
from contracts.schema.models import ModelCard
from service.images import decoded
from service.validation.image import size_of
from service.validation.lookups import Lookups


@dataclass(frozen=True)
class Pictures:
    """The images of a request, by their fields."""

    sources: Mapping[str, Source]
    sizes: Mapping[str, Size]

    def size(self, request: GenerateRequest, card: ModelCard, limit: int) -> Size | None:
        """(height, width) that follows from an image: that of the one to follow, or of the one to start from, as `size_of`."""
        if "control.image" in self.sizes or "image" not in self.sizes:
            return self.sizes.get("control.image")
        return size_of(request, self.sizes["image"], card, limit)


def files_of(request: Conditions) -> dict[str, bytes]:
    """The files that a request brings, by their fields. Raises image-unreadable."""
    return {field: decoded(each, field=field) for field, each in pictures_in(request).items() if isinstance(each, str)}


async def pictures_of(request: Conditions, files: Mapping[str, bytes], lookups: Lookups) -> Pictures:
    """The images of a request, as its job names them; `files` are those that came with it. Raises what is wrong with one."""
    sources: dict[str, Source] = {}
    sizes: dict[str, Size] = {}
    for field, each in pictures_in(request).items():
        if isinstance(each, JobImage):
            images = await lookups.images_of(each.job_id, field=f"{field}.job_id")
            check_image(images, each.image, each.job_id, field=f"{field}.image")
            sources[field], sizes[field] = each, (images.height, images.width)
        else:
            upload = each if isinstance(each, Upload) else await lookups.decoders.inspect(files[field], field=field)
            sources[field], sizes[field] = upload, (upload.height, upload.width)
    if request.mask is not None:
        await lookups.decoders.check_mask(request.mask, sizes["image"], field="mask")
    return Pictures(sources, sizes)
