"""What the training examples of a request mean: the one reading of them, by which gateways refuse and workers learn."""

import base64
import binascii
import struct
import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import TypeVar, assert_never

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contracts.schema.errors import Code, ServiceError
from contracts.schema.optimize import Example, LabelsExample, Mask, MaskExample, MasksExample, OptimizeRequest, RunLengths
from ovam.core.coco import decode_run_lengths, fill_polygons
from ovam.errors import InvalidArgumentError

Size = tuple[int, int]
"""(height, width)."""
Labels = NDArray[np.uint8]
"""(height, width) of an image: 0 is the background, k the k-th class, 255 does not count."""
Marks = NDArray[np.bool_]
"""(height, width): which pixels belong to a class."""
T = TypeVar("T", bound=np.generic)

IGNORE = 255
THRESHOLD = 127  # brighter pixels of a grey PNG belong to the class
MOST_PIXELS = 1 << 24
LONGEST_OUTLINE = 1 << 20  # pixels; filling takes memory for each of them
HEADER = struct.Struct(">8s4x4sIIBB")  # signature, length, "IHDR", width, height, bit depth, colour type
SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, INDEXED = 0, 3  # colour types
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def annotations(request: OptimizeRequest, sizes: Sequence[Size]) -> Iterator[Labels]:
    """The labels of every example, at the size of its image. ServiceError for one that teaches nothing, or cannot be read."""
    found: set[int] = set()
    for place, (example, size) in enumerate(zip(request.examples, sizes, strict=True)):
        labels = labels_of(example, request.classes, size, field=f"examples.{place}")
        found |= {*np.unique(labels).tolist()}
        yield labels
    for place, name in enumerate(request.classes):
        if place + 1 not in found:
            detail = f"class {name!r} has no pixel in any of {len(sizes)} examples"
            raise ServiceError(Code.MASK_EMPTY, detail, field=f"classes.{place}", value=name)
    if 0 not in found:
        raise ServiceError(Code.MASK_FULL, "no pixel of any example is left for the background", field="examples")


def check(request: OptimizeRequest, sizes: Sequence[Size]) -> None:
    """Raise what `annotations` raises."""
    for _ in annotations(request, sizes):
        pass


def labels_of(example: Example, classes: Sequence[str], size: Size, *, field: str) -> Labels:
    """The labels of one example; where masks of several classes overlap, pixels do not count."""
    match example:
        case LabelsExample():
            path = f"{field}.labels"
            return checked(png_labels(example.labels, len(classes), size, field=path), field=path)
        case MaskExample():
            masks = {classes[0]: (example.mask, f"{field}.mask")}
        case MasksExample():
            masks = {name: (mask, f"{field}.masks.{name}") for name, mask in example.masks.items()}
        case _:
            assert_never(example)
    labels = np.zeros(size, np.uint8)
    for name, (mask, path) in masks.items():
        marked = checked(resized(marks_of(mask, size, field=path), size), field=path) != 0
        labels[marked] = np.where(labels[marked] == 0, 1 + classes.index(name), IGNORE)
    return checked(labels, field=field)


def checked(labels: Labels | Marks, *, field: str) -> Labels:
    """The labels, if there are at least two among the pixels that count, one of them a class. ServiceError: mask-empty, -full."""
    counted = {*np.unique(labels).tolist()} - {IGNORE}
    if not counted - {0}:
        raise ServiceError(Code.MASK_EMPTY, f"`{field}` marks no pixel that counts", field=field)
    if len(counted) == 1:
        raise ServiceError(Code.MASK_FULL, f"`{field}` marks every pixel that counts as one class", field=field)
    return labels.astype(np.uint8, copy=False)


def marks_of(mask: Mask, size: Size, *, field: str) -> Marks:
    """The pixels that a mask marks, at its own size; polygons are drawn at `size`."""
    match mask:
        case str():
            return np.asarray(opened(decoded(mask, field=field), field=field).convert("L")) > THRESHOLD
        case RunLengths():
            check_pixels(*mask.size, field=field)
            return run_length_marks(mask, field=field)
        case list():
            return filled(mask, size, field=field)
        case _:
            assert_never(mask)


def png_labels(encoded: str, classes: int, size: Size, *, field: str) -> Labels:
    """The labels of a PNG, as its pixels say them."""
    data = decoded(encoded, field=field)
    image = opened(data, field=field)
    depth, kind = HEADER.unpack_from(data)[4:]
    if kind != INDEXED and (kind, depth) != (GREY, 8):
        detail = f"the labels are a PNG of mode {image.mode}; allowed: indexed, or grey with 8 bits"
        raise ServiceError(Code.MASK_UNREADABLE, detail, field=field, value=image.mode)
    labels = resized(np.asarray(image, np.uint8), size)
    outside = sorted(label for label in np.unique(labels).tolist() if label > classes and label != IGNORE)
    if outside:
        detail = f"the labels of {classes} classes hold {outside[0]}; allowed: 0 to {classes}, and {IGNORE}"
        raise ServiceError(Code.MASK_UNREADABLE, detail, field=field, value=outside[0])
    return labels


def decoded(encoded: str, *, field: str) -> bytes:
    """The bytes that base64 stands for."""
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        detail = "this is not base64; send the bytes of a PNG, base64 in one line"
        raise ServiceError(Code.MASK_NOT_AN_IMAGE, detail, field=field, value=encoded[:40]) from error


def opened(data: bytes, *, field: str) -> Image.Image:
    """A PNG, unpacked once its header does not promise too much."""
    signature, chunk, width, height, *_ = HEADER.unpack_from(data) if len(data) >= HEADER.size else (b"", b"", 0, 0)
    if signature != SIGNATURE or chunk != b"IHDR":
        raise ServiceError(Code.MASK_NOT_AN_IMAGE, "this is not a PNG", field=field, value=repr(data[:8]))
    check_pixels(height, width, field=field)
    try:
        image = Image.open(BytesIO(data), formats=["PNG"])
        image.load()
    except UNREADABLE as error:
        detail = f"the PNG is damaged: {error}"
        raise ServiceError(Code.MASK_NOT_AN_IMAGE, detail, field=field, value=repr(data[:8])) from error
    return image


def check_pixels(height: int, width: int, *, field: str) -> None:
    """Refuse a mask without pixels, or with too many."""
    if min(height, width) < 1:
        detail = f"the mask is {height} high and {width} wide; allowed: at least 1"
        raise ServiceError(Code.MASK_UNREADABLE, detail, field=field, value=f"{height}x{width}")
    if height * width > MOST_PIXELS:
        detail = f"the mask is {height} high and {width} wide; allowed: {MOST_PIXELS} pixels"
        raise ServiceError(Code.IMAGE_TOO_LARGE, detail, field=field, value=f"{height}x{width}")


def run_length_marks(mask: RunLengths, *, field: str) -> Marks:
    """The pixels of COCO's run lengths, compressed or not."""
    try:
        return decode_run_lengths(mask.model_dump())  # type: ignore[arg-type]
    except InvalidArgumentError as error:
        raise ServiceError(
            Code.MASK_UNREADABLE, str(error), field=f"{field}.{error.field}", value=str(error.value)[:40]
        ) from error


def filled(outlines: Sequence[Sequence[float]], size: Size, *, field: str) -> Marks:
    """The union of COCO polygons, filled as pycocotools does."""
    length = sum(outline_length(outline, size, field=f"{field}.{place}") for place, outline in enumerate(outlines))
    if length > LONGEST_OUTLINE:
        detail = f"the polygons are {length:.0f} pixels long; allowed: {LONGEST_OUTLINE}"
        raise ServiceError(Code.IMAGE_TOO_LARGE, detail, field=field, value=length)
    return fill_polygons([list(outline) for outline in outlines], size)


def outline_length(outline: Sequence[float], size: Size, *, field: str) -> float:
    """How many pixels long a polygon is. ServiceError (mask-unreadable) if it is none, or leaves its image."""
    if len(outline) % 2:
        detail = f"a polygon has {len(outline)} numbers; allowed: x and y of every corner in turn"
        raise ServiceError(Code.MASK_UNREADABLE, detail, field=field, value=len(outline))
    corners = np.asarray(outline, np.float64).reshape(-1, 2)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    if min(left, top) < 0 or right > size[1] or bottom > size[0]:
        detail = f"a polygon leaves its image; allowed: x from 0 to {size[1]}, y from 0 to {size[0]}"
        raise ServiceError(Code.MASK_UNREADABLE, detail, field=field, value=f"x {left} to {right}, y {top} to {bottom}")
    return float(abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum())


def resized(pixels: NDArray[T], size: Size) -> NDArray[T]:
    """Pixels brought to another size by the nearest one: no new values."""
    rows, columns = (nearest(have, wanted) for have, wanted in zip(pixels.shape, size, strict=True))
    return pixels[rows][:, columns]


def nearest(have: int, wanted: int) -> NDArray[np.int64]:
    """Which of `have` pixels lies at the centre of each of `wanted` ones."""
    return (2 * np.arange(wanted) + 1) * have // (2 * wanted)
