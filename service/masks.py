"""Masks that clients send, checked before anything is queued."""

import base64
import binascii
import io
import struct
import zlib

from PIL import Image

from contracts.errors import Code, ServiceError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = struct.Struct(">8s4x4sII")  # signature, length, "IHDR", width, height
THRESHOLD = 127  # brighter pixels belong to the class
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error)


def check_mask(encoded: str, size: tuple[int, int], *, field: str) -> None:
    """Raise a ServiceError unless this is a PNG of (height, width) that marks some pixels and not all.

    The size is compared in the file's header, before a pixel is unpacked.
    """
    data = decoded(encoded, field=field)
    height, width = declared_size(data, field=field)
    if (height, width) != size:
        detail = f"the mask is {height} high and {width} wide; its image is {size[0]} high and {size[1]} wide"
        raise ServiceError(Code.MASK_UNREADABLE, detail, field=field, value=f"{height}x{width}")
    darkest, brightest = extrema(data, field=field)
    if brightest <= THRESHOLD:
        detail = f"no pixel of the mask is above {THRESHOLD} of 255: it marks nothing"
        raise ServiceError(Code.MASK_EMPTY, detail, field=field, value=f"brightest {brightest}")
    if darkest > THRESHOLD:
        detail = f"every pixel of the mask is above {THRESHOLD} of 255: it leaves no background"
        raise ServiceError(Code.MASK_FULL, detail, field=field, value=f"darkest {darkest}")


def decoded(encoded: str, *, field: str) -> bytes:
    """The bytes that base64 stands for."""
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        detail = "the mask is not base64; send the bytes of a PNG, base64 in one line"
        raise ServiceError(Code.MASK_NOT_AN_IMAGE, detail, field=field, value=encoded[:40]) from error


def declared_size(data: bytes, *, field: str) -> tuple[int, int]:
    """(height, width) as the PNG's header says."""
    if len(data) >= HEADER.size:
        signature, chunk, width, height = HEADER.unpack_from(data)
        if signature == SIGNATURE and chunk == b"IHDR":
            return height, width
    raise ServiceError(Code.MASK_NOT_AN_IMAGE, "the mask is not a PNG", field=field, value=repr(data[:8]))


def extrema(data: bytes, *, field: str) -> tuple[int, int]:
    """The darkest and the brightest grey of a PNG."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            present = [grey for grey, count in enumerate(image.convert("L").histogram()) if count]
    except UNREADABLE as error:
        detail = f"the mask is a broken PNG: {error}"
        raise ServiceError(Code.MASK_NOT_AN_IMAGE, detail, field=field, value=repr(data[:8])) from error
    return present[0], present[-1]
