"""Masks in the forms COCO tools read: run lengths, polygons, boxes."""

from collections.abc import Iterable
from numbers import Integral
from typing import Any, Final, TypedDict

import cv2
import numpy as np
from jaxtyping import Bool, Int64
from pycocotools import mask as run_lengths

from ovam.errors import InvalidArgumentError

MOST_PIXELS: Final = 1 << 26
FIRST, LAST = ord("0"), ord("o")  # characters of compressed run lengths
MORE, SIGN, DIGIT = 32, 16, 31  # bits of such a character, less FIRST
MOST_DIGITS = 6  # 30 bits: more than MOST_PIXELS and a sign


class RunLengths(TypedDict):
    """COCO's compressed run-length encoding."""

    size: list[int]
    """[height, width]."""
    counts: str | bytes


class PlainRunLengths(TypedDict):
    """COCO's uncompressed run-length encoding."""

    size: list[int]
    """[height, width]."""
    counts: list[int]
    """Lengths of the runs outside and inside in turn, down the columns."""


def encode_run_lengths(mask: Bool[np.ndarray, "height width"]) -> RunLengths:
    """Encode a mask as COCO run lengths, with `counts` as text that JSON takes."""
    encoded = run_lengths.encode(np.asfortranarray(mask, dtype=np.uint8))
    height, width = encoded["size"]
    return {"size": [int(height), int(width)], "counts": encoded["counts"].decode("ascii")}


def decode_run_lengths(encoded: RunLengths | PlainRunLengths) -> Bool[np.ndarray, "height width"]:
    """Return the mask of COCO run lengths, compressed or not; compressed `counts` are text, or pycocotools' bytes.

    Not pycocotools, which reads past the end of damaged counts. Raises `InvalidArgumentError` for counts that
    are no run lengths or do not fill the size, and for more than 64 million pixels.
    """
    height, width = encoded["size"]
    if not (min(height, width) >= 0 and height * width <= MOST_PIXELS):
        raise InvalidArgumentError("size", encoded["size"], f"[height, width], {MOST_PIXELS} pixels at most")
    lengths = lengths_of(encoded["counts"])
    if (lengths < 0).any() or int(lengths.sum()) != height * width:
        allowed = f"run lengths, none negative, that add up to {height} x {width} pixels"
        raise InvalidArgumentError("counts", encoded["counts"], allowed)
    inside = np.arange(lengths.size) % 2 == 1
    return inside.repeat(lengths).reshape(width, height).T.copy()


def lengths_of(counts: Any) -> Int64[np.ndarray, " runs"]:  # noqa: ANN401 - text, bytes, or numbers
    """Return run lengths, outside and inside in turn, of COCO's text, of pycocotools' bytes, or of a list of numbers.

    In text, numbers are written in base 32, the lowest digit first and a sign in the last; from the fourth on they are
    differences to the last but one. Raises `InvalidArgumentError` for text that is no run lengths.
    """
    if not isinstance(counts, str | bytes):
        listed = list(counts) if isinstance(counts, Iterable) else [None]
        if not all(isinstance(number, Integral) and 0 <= int(number) <= MOST_PIXELS for number in listed):
            raise InvalidArgumentError("counts", counts, f"text, bytes, or a list of whole numbers from 0 to {MOST_PIXELS}")
        return np.asarray(listed, dtype=np.int64)
    text = counts if isinstance(counts, str) else counts.decode("latin-1")
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64) - FIRST
    if codes.size == 0 or codes.min() < 0 or codes.max() > LAST - FIRST or codes[-1] & MORE:
        raise InvalidArgumentError("counts", counts, "COCO's compressed run lengths")
    ends = np.flatnonzero(codes & MORE == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    digits = ends - starts + 1
    if digits.max() > MOST_DIGITS:
        raise InvalidArgumentError("counts", counts, f"COCO's compressed run lengths, of {MOST_DIGITS} digits at most")
    shifts = 5 * (np.arange(codes.size) - starts.repeat(digits))
    values = np.add.reduceat((codes & DIGIT) << shifts, starts)
    values -= (codes[ends] & SIGN != 0) * (1 << 5 * digits)
    values[1::2] = values[1::2].cumsum()
    values[2::2] = values[2::2].cumsum()
    return values


def polygons(mask: Bool[np.ndarray, "height width"], inset: float = 0.0) -> list[list[float]]:
    """Outline a mask as COCO polygons [x0, y0, x1, y1, ...], one per 8-connected region.

    The outlines run along the pixels' edges, x in [0, width] and y in [0, height], so that the thinnest
    region has an area, and `fill_polygons` or pycocotools give back the very mask. A hole is part of its
    region's polygon, joined to the outer ring by a line that is walked there and back. With an `inset` of a fraction of a
    pixel they run inside the pixels, for tools that cut corners to whole numbers and count the border in.
    """
    doubled = np.asarray(mask, dtype=np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    rings, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outlines: dict[int, np.ndarray] = {}
    holes: list[tuple[int, np.ndarray]] = []
    for number, ring in enumerate(rings):
        parent = int(hierarchy[0][number][3])
        corners = _corners(ring[:, 0], inset)
        if parent < 0:
            outlines[number] = corners
        else:
            holes.append((parent, corners))
    for parent, hole in holes:
        outlines[parent] = _joined(outlines[parent], hole)
    return [outline.reshape(-1).astype(float).tolist() for outline in outlines.values()]


def fill_polygons(outlines: list[list[float]], size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Fill COCO polygons on a canvas of `size` (height, width) as pycocotools does; their union."""
    height, width = size
    if any(len(outline) < 6 or len(outline) % 2 for outline in outlines):
        raise InvalidArgumentError("polygons", outlines, "lists of x, y with at least three corners")
    if not outlines:
        return np.zeros(size, dtype=np.bool_)
    encoded: Any = run_lengths.merge(run_lengths.frPyObjects(outlines, height, width))
    return decode_run_lengths({"size": [height, width], "counts": encoded["counts"].decode("ascii")})


def bounding_box(mask: Bool[np.ndarray, "height width"]) -> tuple[int, int, int, int]:
    """Return a mask's smallest box as COCO's (x, y, width, height) in pixels; all 0 for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return 0, 0, 0, 0
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    return left, top, right - left + 1, bottom - top + 1


def area(mask: Bool[np.ndarray, "height width"]) -> int:
    """Count a mask's pixels."""
    return int(np.count_nonzero(mask))


def _corners(ring: np.ndarray, inset: float) -> np.ndarray:
    """Move a ring from the doubled mask's pixels to the mask's pixel corners, without needless points."""
    corners = (ring + 1) // 2 + np.where(ring % 2, -inset, inset)
    steps = np.sign(np.diff(corners, axis=0, prepend=corners[-1:]))
    moved = steps.any(axis=1)
    corners, steps = corners[moved], steps[moved]
    return corners[np.diff(steps, axis=0, append=steps[:1]).any(axis=1)]


def _joined(outer: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Insert a hole into an outline at their nearest corners."""
    distance = np.abs(outer[:, None] - hole[None]).sum(axis=2)
    at, start = np.unravel_index(int(distance.argmin()), distance.shape)
    around = np.roll(hole, -int(start), axis=0)
    return np.concatenate([outer[: at + 1], around, around[:1], outer[at:]])
