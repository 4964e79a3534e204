"""The worker without a model, with pictures that can be read: in each is a white square, as large as its seed says."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from contracts.schema.attribute import Appraisal, AttributeJob, AttributeResult, Segment
from contracts.schema.fields import Rle
from contracts.schema.images import GenerateJob, ImageJob, ImagesResult
from contracts.schema.jobs import JobRecord
from contracts.state.store import File
from ovam.core import coco
from ovam.core.looks import difference_hash, is_single_coloured
from tests.service.in_test_worker import InTestWorker

SIDES = (
    4,
    8,
    12,
    16,
    20,
    24,
    28,
    32,
    36,
    40,
)  # pixels of the square, by the last digit of the seed; 0 for seed 13, all one colour
WEIGHTS = "0123456789abcdef"


def side(seed: int) -> int:
    return 0 if seed == 13 else SIDES[seed % 10]


def square(seed: int, height: int, width: int) -> Bool[np.ndarray, "height width"]:
    mask = np.zeros((height, width), dtype=bool)
    mask[: side(seed), : side(seed)] = True
    return mask


def picture(seed: int, height: int, width: int) -> UInt8[np.ndarray, "height width 3"]:
    image = np.full((height, width, 3), 17 + seed % 200, dtype=np.uint8)
    image[square(seed, height, width)] = 255
    return image


def png(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def score(text: str, seed: int) -> float:
    """What CLIP would say: the larger the square, the better."""
    return side(seed) / 100 * (-1 if text.startswith("not") else 1)


@dataclass(frozen=True)
class DrawingWorker(InTestWorker):
    async def images(self, record: JobRecord, job: GenerateJob | ImageJob) -> ImagesResult:
        result = await super().images(record, job)
        files = [File(each.image.name, "image/png", png(picture(each.seed, job.height, job.width))) for each in result.images]
        stored = await self.store.commit(record.id, record.attempt, files)
        drawn = [each.model_copy(update={"image": stored[each.image.name]}) for each in result.images]
        return result.model_copy(update={"images": drawn, "weights": WEIGHTS})

    async def segments(self, record: JobRecord, job: AttributeJob) -> AttributeResult:
        result = await super().segments(record, job)
        source = await self.ledger.get(job.job_id)
        assert isinstance(source.request, GenerateJob | ImageJob)
        seed, size = source.request.seed + job.image, (source.request.height, source.request.width)
        mask, image = square(seed, *size), picture(seed, *size)
        runs = coco.encode_run_lengths(mask)
        found = {"area": int(mask.sum()), "rle": Rle(size=size, counts=str(runs["counts"])), "score": 0.5}
        asked, appraisal = job.appraisal, None
        if asked is not None:
            scores = [score(text, seed) for text in asked.clip]
            looks = difference_hash(image)
            appraisal = Appraisal(single_colour=is_single_coloured(image), looks=looks, clip=scores, clip_scale=100.0)
        segments = [Segment.model_validate({**dict(each), **found}) for each in result.segments]
        return result.model_copy(update={"segments": segments, "height": size[0], "width": size[1], "appraisal": appraisal})
