"""What the training examples of a request mean: the one reading of them, by which gateways refuse and workers learn.

The forms of masks are the library's, see `ovam.core.mask_files`.
"""

import base64
import binascii
import math
from collections.abc import Iterator, Sequence
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from contracts.schema.errors import Code, ServiceError, service_error
from contracts.schema.masks import Mask, RunLengths
from contracts.schema.optimize import Example, LabelsExample, MaskExample, MasksExample, OptimizeRequest
from ovam.core.label_maps import IGNORE
from ovam.core.mask_files import HEADER, MOST_PIXELS, labels_of_png, marks_of, resized_to, size_of_png
from ovam.errors import OvamError

Size = tuple[int, int]
"""(height, width)."""
Labels = NDArray[np.uint8]
"""(height, width) of an image: 0 is the background, k the k-th class, 255 does not count."""


def annotations(request: OptimizeRequest, sizes: Sequence[Size]) -> Iterator[Labels]:
    """The labels of every example, at the size of its image. ServiceError for one that teaches nothing, or cannot be read."""
    present: set[int] = set()
    for place, (example, size) in enumerate(zip(request.examples, sizes, strict=True)):
        labels = labels_of(example, request.classes, size, field=f"examples.{place}")
        present |= {*np.unique(labels).tolist()}
        yield labels
    for place, name in enumerate(request.classes):
        if place + 1 not in present:
            detail = f"class {name!r} has no pixel in any of {len(sizes)} examples"
            raise ServiceError(Code.MASK_EMPTY, detail, field=f"classes.{place}", value=name)
    if 0 not in present:
        raise ServiceError(Code.MASK_FULL, "no pixel of any example is left for the background", field="examples")


def check(request: OptimizeRequest, sizes: Sequence[Size]) -> None:
    """Raise what `annotations` raises."""
    for _ in annotations(request, sizes):
        pass


def check_mask(mask: Mask, size: Size, field: str) -> None:
    """Raise what `marks_at` raises."""
    marks_at(mask, size, field=field)


def pixels(request: OptimizeRequest, sizes: Sequence[Size]) -> int:
    """How many pixels the masks of a request promise to have, without reading more of them than that."""
    return sum(
        height * width
        for example, size in zip(request.examples, sizes, strict=True)
        for height, width in (promised(mask, size) for mask in masks_of(example))
    )


def masks_of(example: Example) -> list[Mask]:
    """The masks of an example, or its map of labels."""
    match example:
        case LabelsExample():
            return [example.labels]
        case MaskExample():
            return [example.mask]
        case MasksExample():
            return [*example.masks.values()]
        case _:
            assert_never(example)


def promised(mask: Mask, size: Size) -> Size:
    """The size that a mask of an image of `size` says it has; nothing for one that is refused for it."""
    match mask:
        case str():
            try:
                found = size_of_png(decoded(mask[: 4 * HEADER.size], field="")) or (0, 0)
            except ServiceError:
                return 0, 0
        case RunLengths():
            found = mask.size
        case list():
            return size
        case _:
            assert_never(mask)
    return found if math.prod(found) <= MOST_PIXELS else (0, 0)


def labels_of(example: Example, classes: Sequence[str], size: Size, *, field: str) -> Labels:
    """The labels of one example; where masks of several classes overlap, pixels do not count."""
    match example:
        case LabelsExample():
            return labels_at(example.labels, len(classes), size, field=f"{field}.labels")
        case MaskExample():
            return marks_at(example.mask, size, field=f"{field}.mask")
        case MasksExample():
            labels = np.zeros(size, np.uint8)
            for name, mask in example.masks.items():
                marks = marks_at(mask, size, field=f"{field}.masks.{name}")
                labels[marks == 1] = np.where(labels[marks == 1] == 0, 1 + classes.index(name), IGNORE)
                labels[marks == IGNORE] = IGNORE
            return checked(labels, field=field)
        case _:
            assert_never(example)


def labels_at(encoded: str, classes: int, size: Size, *, field: str) -> Labels:
    """The labels of a PNG in base64, at a size. ServiceError for what cannot be read, or teaches nothing."""
    data = decoded(encoded, field=field)
    try:
        labels = resized_to(labels_of_png(data, classes), size)
    except OvamError as error:
        raise service_error(error, field=field) from error
    return checked(labels, field=field)


def marks_at(mask: Mask, size: Size, *, field: str) -> Labels:
    """The pixels that a mask marks, at a size. ServiceError for what cannot be read, or teaches nothing."""
    match mask:
        case str():
            form = decoded(mask, field=field)
        case RunLengths():
            form = mask.model_dump()
        case list():
            form = mask
        case _:
            assert_never(mask)
    try:
        marks = resized_to(marks_of(form, size), size)
    except OvamError as error:
        raise service_error(error, field=field) from error
    return checked(marks, field=field)


def checked(labels: Labels, *, field: str) -> Labels:
    """The labels, if there are at least two among the pixels that count, one of them a class. ServiceError: mask-empty, -full."""
    counted = {*np.unique(labels).tolist()} - {IGNORE}
    if not counted - {0}:
        raise ServiceError(Code.MASK_EMPTY, f"`{field}` marks no pixel that counts", field=field)
    if len(counted) == 1:
        raise ServiceError(Code.MASK_FULL, f"`{field}` marks every pixel that counts as one class", field=field)
    return labels


def decoded(encoded: str, *, field: str) -> bytes:
    """Decode base64."""
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        detail = "this is not base64; send the bytes of a PNG, base64 in one line"
        raise ServiceError(Code.MASK_NOT_AN_IMAGE, detail, field=field, value=encoded[:40]) from error
