"""Several targets in one map: a label per pixel, and the indexed PNG that Pascal VOC's tools read."""

from io import BytesIO
from typing import Final

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from ovam.errors import InvalidArgumentError, LabelMapError

BACKGROUND: Final = 0
IGNORE: Final = 255
MOST_TARGETS: Final = 254
MOST_PIXELS: Final = 1 << 26


def labels_of(margins: Float[np.ndarray, "targets height width"], *, least_gap: float = 0.0) -> UInt8[np.ndarray, "height width"]:
    """Label every pixel with the target of the largest margin over the background, from 1, or 0 where no margin reaches 0.

    A pixel whose winner is less than `least_gap` ahead of the second (the background, at 0, competes too) is ambiguous and gets
    255, which VOC's tools ignore. Of equals the first target wins, the background last, so that one target's label is its mask.

    Raises `InvalidArgumentError` for no or more than 254 targets and for a negative gap.
    """
    if margins.ndim != 3 or not 1 <= margins.shape[0] <= MOST_TARGETS:
        raise InvalidArgumentError("margins", margins.shape, f"(1 to {MOST_TARGETS} targets, height, width)")
    if not least_gap >= 0:
        raise InvalidArgumentError("least_gap", least_gap, "0 or more")
    contest = np.concatenate([margins, np.zeros_like(margins[:1])])
    winner = contest.argmax(axis=0)
    labels = np.where(winner == margins.shape[0], BACKGROUND, winner + 1)
    if least_gap > 0:
        second, first = np.partition(contest, -2, axis=0)[-2:]
        labels = np.where(first - second < least_gap, IGNORE, labels)
    return labels.astype(np.uint8)


def voc_palette() -> UInt8[np.ndarray, "256 3"]:
    """Return the colours of Pascal VOC: each label's bits, dealt in turn to red, green and blue from the top."""
    labels = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((labels >> (3 * bit + channel)) & 1).astype(np.uint8) << (7 - bit)
    return palette


def indexed_png(labels: UInt8[np.ndarray, "height width"]) -> bytes:
    """Write labels as a PNG with VOC's palette."""
    image = Image.fromarray(np.ascontiguousarray(labels), mode="L")
    image.putpalette(voc_palette().tobytes())
    buffer = BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def read_indexed_png(data: bytes) -> UInt8[np.ndarray, "height width"]:
    """Read the labels of an indexed or greyscale PNG, as they are in the file.

    Raises `LabelMapError` for other bytes, other modes and more than 64 million pixels.
    """
    try:
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            if image.mode not in ("P", "L"):
                raise LabelMapError(f"the PNG has mode {image.mode}; allowed: indexed (P) or greyscale (L)")
            if image.width * image.height > MOST_PIXELS:
                raise LabelMapError(f"the PNG is {image.height} x {image.width}; allowed: {MOST_PIXELS} pixels")
            return np.array(image, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise LabelMapError(f"{len(data)} bytes that are not a PNG of labels: {error}") from error
