"""What is exported: an image with a mask for each thing in it, checked and brought to bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import ExifTags, Image, ImageOps

from ovam.core.mask_files import UNREADABLE, Size, reason_of
from ovam.core.pictures import Picture, rgb_of
from ovam.errors import InvalidArgumentError

SUFFIXES = {"PNG": "png", "JPEG": "jpg"}
UPRIGHT = (None, 1)  # orientations in EXIF


@dataclass(frozen=True, eq=False)
class Annotation:
    """A thing in an image: its class and its pixels."""

    label: str
    """The name of its class."""
    mask: Bool[np.ndarray, "height width"]
    """At the size of the image."""
    score: float | None = None
    """How sure the mask is, in [0, 1]; `Segment.score`, for example."""
    confidence: float | None = None
    """How sure it is by another measure, in [0, 1]: `Segment.confidence.value`, which tells where people should look first."""


@dataclass(frozen=True, eq=False)
class Sample:
    """An image with its annotations, and where they came from."""

    name: str
    """What the image is called; files get it in a safe form, and its split depends on it."""
    image: bytes | Picture
    """The bytes of a PNG or JPEG, which are exported as they are, or a PIL image or an array, exported as PNG."""
    annotations: Sequence[Annotation] = ()
    prompt: str = ""
    seed: int | None = None
    unsure: Bool[np.ndarray, "height width"] | None = None
    """Pixels of which nobody knows whose they are: 255 in semantic maps."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else is known, as JSON has it."""


@dataclass(frozen=True)
class Encoded:
    """An image as a file."""

    data: bytes
    suffix: str
    """`png` or `jpg`."""
    size: Size


def encoded(sample: Sample) -> Encoded:
    """Return a sample's image as a file: PNG and JPEG bytes as they are, unless EXIF says that the picture lies on its side.

    Raises `InvalidArgumentError` for bytes that are not all of a PNG or JPEG.
    """
    data = sample.image
    if not isinstance(data, bytes):
        return png_of(Image.fromarray(rgb_of(data)))
    try:
        with Image.open(BytesIO(data), formats=[*SUFFIXES]) as picture:
            picture.load()
            if picture.getexif().get(ExifTags.Base.Orientation) not in UPRIGHT:
                return png_of(ImageOps.exif_transpose(picture).convert("RGB"))
            return Encoded(data, SUFFIXES[str(picture.format)], (picture.height, picture.width))
    except UNREADABLE as error:
        raise InvalidArgumentError(f"image of {sample.name!r}", data, f"a whole PNG or JPEG; {reason_of(error)}") from error


def png_of(picture: Image.Image) -> Encoded:
    """Return a picture as a PNG."""
    buffer = BytesIO()
    picture.save(buffer, format="PNG")
    return Encoded(buffer.getvalue(), "png", (picture.height, picture.width))


def jpeg_of(image: Encoded) -> bytes:
    """Return an image as a JPEG that is hardly told from it; JPEGs stay as they are."""
    if image.suffix == "jpg":
        return image.data
    buffer = BytesIO()
    Image.fromarray(rgb_of(Image.open(BytesIO(image.data)))).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def check_masks(sample: Sample, size: Size) -> None:
    """Raise `InvalidArgumentError` for a mask that is not boolean or not of its image's size."""
    masks = {f"annotations[{number}].mask": each.mask for number, each in enumerate(sample.annotations)}
    for name, mask in {**masks, **({} if sample.unsure is None else {"unsure": sample.unsure})}.items():
        if mask.dtype != np.bool_ or mask.shape != size:
            found = f"{mask.dtype.name} {mask.shape}"
            raise InvalidArgumentError(f"{name} of {sample.name!r}", found, f"bool, (height, width) of the image, {size}")
