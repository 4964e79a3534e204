"""Masks as Label Studio's regions, and its regions as masks and places."""

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool

from contracts.schema.errors import Code, ServiceError
from ovam.core.coco import bounding_box, fill_polygons, polygons
from service.images import MAX_PIXELS
from service.integrations.asking import Found
from service.integrations.guided import Place, place
from service.integrations.label_studio import brush
from service.integrations.label_studio.config import BOXED, PLACED, Control
from service.integrations.label_studio.shapes import Region

PERCENT = 100.0
DIGITS = 4  # after the point of a percentage
MOST_CORNERS = 20_000
Mask = Bool[np.ndarray, "height width"]


def drawn(found: Found, label: str, control: Control, image: str) -> Iterator[dict[str, Any]]:
    """The regions of a mask: one of a brush or a box, or one for each outline; none of an empty mask."""
    height, width = found.mask.shape
    for value in values_of(found.mask, control.kind) if found.mask.any() else ():
        yield {
            "id": uuid.uuid4().hex[:10],
            "from_name": control.name,
            "to_name": image,
            "type": control.kind,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": found.score,
            "value": {**value, control.kind: [label]},
        }


def values_of(mask: Mask, kind: str) -> Iterator[dict[str, Any]]:
    """What Label Studio calls the values of regions."""
    height, width = mask.shape
    if kind == "brushlabels":
        yield {"format": "rle", "rle": brush.encoded(mask)}
    elif kind == BOXED:
        x, y, across, down = bounding_box(mask)
        sides = {"x": (x, width), "y": (y, height), "width": (across, width), "height": (down, height)}
        yield {**{name: percent(*of) for name, of in sides.items()}, "rotation": 0}
    else:
        for outline in polygons(mask):
            points = zip(outline[::2], outline[1::2], strict=True)
            yield {"points": [[percent(x, width), percent(y, height)] for x, y in points], "closed": True}


def percent(part: float, of: int) -> float:
    """A part of a side, in percent of it."""
    return round(PERCENT * part / of, DIGITS)


def label_of(region: Region) -> str | None:
    """The label of a region, if it has one."""
    labels = region.value.get(region.type)
    return labels[0] if isinstance(labels, list) and labels and isinstance(labels[0], str) else None


def places_of(regions: list[Region], size: tuple[int, int]) -> Iterator[Place]:
    """The points and boxes that a smart tool drew, in an image of (height, width)."""
    for region in regions:
        if region.type.removesuffix("labels") in [kind.removesuffix("labels") for kind in PLACED]:
            is_box = region.type.startswith("rectangle")
            x, y, width, height = (numbers(region, name) / PERCENT for name in ("x", "y", "width", "height"))
            extent = (width, height) if is_box else (0.0, 0.0)
            yield place(x, y, *extent, size, wanted=region.is_positive is not False)


def numbers(region: Region, name: str) -> float:
    """A number of a region's value. ServiceError (invalid-argument) for none."""
    value = region.value.get(name, 0)
    if not isinstance(value, int | float) or not abs(value) <= 10 * PERCENT:  # false for NaN
        detail = f"`value.{name}` of a region is {value!r}; allowed: a number of percent"
        raise ServiceError(Code.INVALID_ARGUMENT, detail, field=f"value.{name}", value=str(value)[:40])
    return float(value)


def mask_of(region: Region) -> Mask | None:
    """The mask that a person drew, of the image's size; None for what is no mask. ServiceError: mask-unreadable."""
    size = height, width = region.original_height, region.original_width
    if region.type not in ("brushlabels", "polygonlabels", BOXED):
        return None
    if not (min(size) > 0 and height * width <= MAX_PIXELS):
        raise brush.unreadable(f"is of {width} x {height} pixels; allowed: 1 to {MAX_PIXELS}")
    if region.type == "brushlabels":
        rle = region.value.get("rle")
        return brush.decoded(brush.bytes_of(rle if isinstance(rle, list) else []), size)
    if region.type == BOXED:
        x, y, across, down = (numbers(region, name) / PERCENT for name in ("x", "y", "width", "height"))
        box = place(x, y, across, down, size)
        mask = np.zeros(size, np.bool_)
        box.part(mask)[:] = True
        return mask
    return fill_polygons([outline_of(region, size)], size)


def outline_of(region: Region, size: tuple[int, int]) -> list[float]:
    """A polygon's corners in pixels."""
    height, width = size
    points = region.value.get("points")
    try:
        corners = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        corners = np.empty((0, 2))
    if not (3 <= len(corners) <= MOST_CORNERS and np.abs(corners).max() <= 10 * PERCENT):  # noqa: PLR2004  # false for NaN
        raise ServiceError(Code.MASK_UNREADABLE, f"a polygon needs 3 to {MOST_CORNERS} points in percent", field="value.points")
    return (corners.clip(0, PERCENT) / PERCENT * (width, height)).ravel().tolist()
