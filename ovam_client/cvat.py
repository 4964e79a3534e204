r"""An auto-annotation function for CVAT: words and learned tokens as masks or polygons.

    cvat-cli --server-host https://app.cvat.ai task auto-annotate 7 --function-module ovam_client.cvat \
        -p labels=str:"Car=car, Front wheel=wheel, Logo=my-token@2"

Needs `cvat-sdk` (`pip install './ovam_client[cvat]'`). OVAM_URL and OVAM_API_KEY say where the service is, unless `url` and `key`
do.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cvat_sdk import auto_annotation as cvat
from cvat_sdk.masks import encode_mask
from numpy.typing import NDArray
from PIL import Image

from ovam_client.errors import NotFoundError
from ovam_client.inputs import TargetLike
from ovam_client.pictures import file_of
from ovam_client.sync import Client, Segment

REFERENCE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(@[1-9][0-9]{0,8})?")
MIDDLE = 128  # of 0..255
CORNERS = 6  # numbers of the smallest polygon


def create(labels: str, url: str | None = None, key: str | None = None, model: str | None = None) -> "Function":
    """The function that `cvat-cli` calls, with its `-p` parameters.

    `labels` are those of the task, separated by commas. Each is followed by `=` and the word or the learned token that it stands
    for, unless it is that word itself. Raises ValueError for no labels, and the client's errors.
    """
    named = dict(pair for each in labels.split(",") if (pair := label_of(each)))
    if not named:
        raise ValueError(f'labels is {labels!r}; allowed: labels of the task, as "Car=car, Front wheel=wheel"')
    client = Client(url, key=key)
    targets = [target_of(wanted, client) for wanted in named.values()]
    specs = [cvat.label_spec(name, number, type="mask") for number, name in enumerate(named)]
    return Function(client, cvat.DetectionFunctionSpec(labels=specs), targets, {"model": model} if model else {})


def label_of(text: str) -> tuple[str, str] | None:
    """A label and what it stands for; None for nothing."""
    name, _, wanted = (part.strip() for part in text.partition("="))
    return (name, wanted or name) if name else None


def target_of(wanted: str, client: Client) -> TargetLike:
    """The learned token of that name, or the words. Raises NotFoundError for a version of a token that is not there."""
    if REFERENCE.fullmatch(wanted):
        try:
            return client.tokens.get(wanted)
        except NotFoundError:
            if "@" in wanted:
                raise
    return wanted


@dataclass(frozen=True)
class Function:
    """A detection function, as `cvat_sdk.auto_annotation` describes it."""

    client: Client
    spec: cvat.DetectionFunctionSpec
    targets: Sequence[TargetLike]
    options: dict[str, Any]

    def detect(self, context: cvat.DetectionFunctionContext, image: Image.Image) -> list[cvat.DetectionAnnotation]:
        """The labels in an image, unsure ones left out. The service looks at an image once, for as long as it keeps it."""
        file = file_of(image.convert("RGB"))
        name = f"cvat-{hashlib.sha256(file.encode()).hexdigest()}"
        job = self.client.submit("images", {"image": file, **self.options}, key=name)
        found: list[cvat.DetectionAnnotation] = []
        for number, segment in enumerate(job.attribute(*self.targets, confidence=True)):
            if segment.area and segment.confidence >= (context.conf_threshold or 0.0):
                size = (image.height, image.width)
                if context.conv_mask_to_poly:
                    found += (cvat.polygon(number, outline) for outline in outlines(segment, size))
                elif (mask := enlarged(segment.mask, size)).any():
                    found.append(cvat.mask(number, encode_mask(mask)))
        return found


def outlines(segment: Segment, size: tuple[int, int]) -> Iterator[list[float]]:
    """A segment's polygons in an image of (height, width)."""
    height, width = segment.data.rle.size
    scale = [size[1] / width, size[0] / height]
    for outline in segment.data.polygons:
        if len(outline) >= CORNERS:
            yield (np.reshape(outline, (-1, 2)) * scale).ravel().tolist()


def enlarged(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask in an image of (height, width), its edges smooth."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)) >= MIDDLE
