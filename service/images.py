"""Images that clients send, checked before anything is queued. Their header is judged before a pixel is unpacked."""

import base64
import binascii
import hashlib
import io
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from PIL import ExifTags, Image

from contracts.schema.errors import Code, ServiceError, service_error
from contracts.schema.images import Upload
from ovam.core.mask_files import opacity_of, png, reason_of
from ovam.errors import OvamError

MAX_PIXELS = 25_000_000  # 75 MB unpacked
HALF = 127  # of opacity
MAX_SCANS = 100  # of a JPEG; usual are 1 and 10
JPEG, START_OF_SCAN = b"\xff\xd8\xff", b"\xff\xda"
MediaType = Literal["image/png", "image/jpeg", "image/webp"]
FORMATS: Mapping[str, MediaType] = MappingProxyType({"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"})
SEVERAL_IN_ONE = "MPO"  # a JPEG with more JPEGs behind it, as phones make them: the first is the picture
OTHERS = MappingProxyType({b"GIF8": "a GIF", b"BM": "a BMP", b"II*\0": "a TIFF", b"MM\0*": "a TIFF", b"<svg": "an SVG"})
SIDEWAYS = (5, 6, 7, 8)  # orientations in EXIF that turn the picture by 90 degrees
TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def decoded(encoded: str, *, field: str) -> bytes:
    """Decode base64; image-unreadable if it is not valid."""
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        detail = f"`{field}` is not base64; send the bytes of a PNG, JPEG or WebP, base64 in one line"
        raise ServiceError(Code.IMAGE_UNREADABLE, detail, field=field, value=encoded[:40]) from error


class LaboriousError(Exception):
    """To unpack this image would be more work than allowed."""


def inspected(data: bytes, field: str, most_work: float = math.inf) -> Upload:
    """What an image is, once all of it could be unpacked.

    Raises image-unreadable, image-too-large or image-unsupported, and LaboriousError if more than `most_work` pixels would have
    to be gone over.
    """
    try:
        check_scans(data, field=field)
        with Image.open(io.BytesIO(data), formats=list(FORMATS)) as image:
            check_pixels(image.width, image.height, field=field)
            check_still(image, field=field)
            check_work(image, data, most_work)
            image.load()
            sideways = image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
            height, width = (image.width, image.height) if sideways else (image.height, image.width)
            kind = FORMATS["JPEG" if image.format == SEVERAL_IN_ONE else str(image.format)]
    except (ServiceError, LaboriousError):
        raise
    except TOO_LARGE as error:
        detail = f"`{field}` has more pixels than allowed: {MAX_PIXELS:,} in all"
        raise ServiceError(Code.IMAGE_TOO_LARGE, detail, field=field) from error
    except Exception as error:  # Pillow's decoders raise many kinds; each means the same here
        check_kind(data, field=field)
        detail = f"`{field}` is not a complete PNG, JPEG or WebP: {reason_of(error)}"
        raise ServiceError(Code.IMAGE_UNREADABLE, detail, field=field, value=repr(data[:8])) from error
    return Upload(media_type=kind, size=len(data), sha256=hashlib.sha256(data).hexdigest(), height=height, width=width)


def transparent(data: bytes, field: str) -> str:
    """The transparent part of a PNG as a mask: another PNG, in base64."""
    try:
        opacity = opacity_of(png(data))
    except OvamError as error:
        raise service_error(error, field=field) from error
    if opacity is None:
        detail = f"`{field}` has no transparent pixel; the image is edited where the mask is transparent"
        raise ServiceError(Code.MASK_UNREADABLE, detail, field=field)
    file = io.BytesIO()
    Image.fromarray(opacity <= HALF).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def check_pixels(width: int, height: int, *, field: str) -> None:
    """Raise image-too-large for more pixels than are unpacked."""
    if width * height > MAX_PIXELS:
        detail = f"`{field}` has {width} x {height} pixels; allowed: {MAX_PIXELS:,} in all"
        raise ServiceError(Code.IMAGE_TOO_LARGE, detail, field=field, value=width * height)


def check_scans(data: bytes, *, field: str) -> None:
    """Raise image-unsupported for a progressive JPEG of more scans than programs write: each goes over all pixels."""
    if (count := scans(data)) > MAX_SCANS:
        detail = f"`{field}` is a JPEG of {count} scans; allowed: {MAX_SCANS}"
        raise ServiceError(Code.IMAGE_UNSUPPORTED, detail, field=field, value=count)


def scans(data: bytes) -> int:
    """How many scans a JPEG has; 0 for another image."""
    return data.count(START_OF_SCAN) if data.startswith(JPEG) else 0


def check_work(image: Image.Image, data: bytes, most: float) -> None:
    """Raise LaboriousError for more pixels than `most`, each counted as often as it is gone over."""
    if image.width * image.height * max(1, scans(data)) > most:
        raise LaboriousError


def check_still(image: Image.Image, *, field: str) -> None:
    """Raise image-unsupported for an animation."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != SEVERAL_IN_ONE:
        raise ServiceError(Code.IMAGE_UNSUPPORTED, f"`{field}` has {frames} frames; allowed: one", field=field, value=frames)


def check_kind(data: bytes, *, field: str) -> None:
    """Raise image-unsupported for an image in a format that is known, but not taken."""
    found = next((name for magic, name in OTHERS.items() if data.startswith(magic)), None)
    if found or data[4:8] == b"ftyp":
        detail = f"`{field}` is {found or 'an AVIF or HEIF'}; allowed: PNG, JPEG, WebP"
        raise ServiceError(Code.IMAGE_UNSUPPORTED, detail, field=field, value=repr(data[:8]))
